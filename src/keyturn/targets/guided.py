"""
Values that only a person can fetch.

What has to be done is shown, the value is taken and examined before it is stored, and
the old one is ended by the person too. Nothing waits in memory: a rotation without its
value stops at `create`, and one whose old value still works at `retire`, and either is
taken up again days later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import SecretRef, Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import NotYet, UsageError, VerificationFailed
from keyturn.manifest import is_placeholder
from keyturn.targets._base import OnePhase

__all__ = ["Guided", "GuidedKind", "build", "refuse_old", "resume_hint", "typed", "waits"]

# How often it is looked at whether a person has ended the old value.
_LOOK_AGAIN_SECONDS = 3600
_MAX_LINES = 20
_USERNAME = FieldName("username")


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a secret that a person fetches and that nothing can try.

    Raises:
        UsageError: The target's instructions are not text.
    """
    return Guided(context, _instructions(context))


class GuidedKind(OnePhase, ABC):
    """What kinds have in common whose value a person fetches."""

    def __init__(self, context: KindContext) -> None:
        self._context = context

    @abstractmethod
    def instructions(self, current: Values | None) -> Sequence[str]:
        """Return what the person has to do, a line a step."""

    @abstractmethod
    def examine(self, current: Values | None, values: Values) -> None:
        """
        Look at what the person gave, and try it where that is possible.

        Raises:
            VerificationFailed: It cannot be right; the message says why.
            Unavailable: It could not be tried.
        """

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Return what a person supplied.

        Raises:
            NotYet: Nobody is there to be asked. What was done at the vendor by then is
                kept: the same value is given when the rotation is resumed.
            VerificationFailed: What was given was not accepted.
        """
        steps = self.instructions(current)
        given = self._context.supplier.supply(
            steps, self._context.fields, lambda values: self.examine(current, values)
        )
        if given is None:
            raise waits(
                self._context.ref,
                "a person has to fetch the new value: " + "; ".join(steps),
            )
        return given

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: where the value was fetched, it is accepted already."""


class Guided(GuidedKind):
    """
    Opaque values. Their form can be looked at, and nothing can be asked about them.

    Args:
        instructions: What the manifest says has to be done.
    """

    def __init__(self, context: KindContext, instructions: Sequence[str]) -> None:
        super().__init__(context)
        self._instructions = instructions

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        lines = [("create", line) for line in self.instructions(current)]
        lines.append(("check", "the form alone: nothing can be asked"))
        if current is not None:
            lines.append(("retire", "nothing: end the old value where it was made"))
            lines.append(("prove", "nothing: nothing can be asked"))
        return lines

    def instructions(self, current: Values | None) -> Sequence[str]:
        """Return what the manifest says, and how to go on."""
        if self._instructions:
            return self._instructions
        names = " and ".join(f"`{field}`" for field in self._context.fields)
        lines = [f"make a new {names} where the present one was made, or ask who gives it out"]
        if current is not None:
            lines.append("leave the present one working until this rotation is done")
        return lines

    def examine(self, current: Values | None, values: Values) -> None:
        """
        Refuse what is no value, and the old value again.

        Raises:
            VerificationFailed: It is one of these.
        """
        for field in self._context.fields:
            if _stands_for_one(values.get(field), field):
                raise VerificationFailed(
                    f"what was given as `{field}` is empty or only stands for a value",
                    hint="give the value itself",
                    code="value.form",
                )
        refuse_old(current, values, self._context.fields)

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Look at the form again, and say that nothing more was looked at."""
        self.examine(current, pending)
        return Evidence("not tried", "nothing can be asked about it; its form was looked at")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Do nothing: only a person can end it."""

    def retire(self, current: Values, old: Values) -> None:
        """Do nothing: only a person can end it, and nothing can tell whether it was ended."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """Say that nothing was proven."""
        return Evidence("not proven", "end the old value where it was made; nothing can be asked")

    def probe(self, values: Values) -> Evidence:
        """
        Look at the form.

        Raises:
            VerificationFailed: It only stands for a value.
        """
        self.examine(None, values)
        return Evidence("not tried", "nothing can be asked about it; its form was looked at")


def _stands_for_one(value: SecretValue | None, field: FieldName) -> bool:
    if not value:
        return True
    try:
        text = value.reveal_text()
    except ValueError:
        return False  # bytes that are no text stand for nothing else
    # A login's name may well be a plain word.
    return field != _USERNAME and is_placeholder(text)


def typed(values: Values, field: FieldName) -> str:
    """
    Return what a person gave for *field*.

    Raises:
        VerificationFailed: Nothing, or what no vendor gives out: blanks around it,
            more than a line, not text.
    """
    value = values.get(field, SecretValue(b""))
    try:
        text = value.reveal_text()
    except ValueError:
        text = ""
    if not text or text.strip() != text or not text.isprintable():
        raise VerificationFailed(
            f"what was given as `{field}` is not one line of text, or has blanks around it",
            hint="copy the value alone, without its name and without a line end",
            code="value.form",
        )
    return text


def refuse_old(current: Values | None, values: Values, fields: Sequence[FieldName]) -> None:
    """
    Return where *values* differ from *current* in one of *fields*.

    Raises:
        VerificationFailed: They are the old ones again.
    """
    if current is None or any(current.get(field) != values.get(field) for field in fields):
        return
    raise VerificationFailed(
        "this is the present value again, not a new one",
        hint="make a new one first: the steps are shown above the question",
        code="value.old",
    )


def waits(ref: SecretRef, what: str, *, looked_at: bool = False) -> NotYet:
    """
    Return the error for a rotation of *ref* that waits for a person.

    Args:
        what: What the person has to do.
        looked_at: Whether it was done can be asked, and is, from time to time.
    """
    return NotYet(
        f"`{ref.name}` waits: {what}",
        person=True,
        again_seconds=_LOOK_AGAIN_SECONDS if looked_at else None,
        hint=resume_hint(ref),
    )


def resume_hint(ref: SecretRef) -> str:
    """Return the command that takes a rotation of *ref* up again."""
    return f"then: keyturn rotate --resume {ref.name} -e {ref.environment}"


def _instructions(context: KindContext) -> Sequence[str]:
    found = context.target.get("instructions", [])
    lines = [found] if isinstance(found, str) else found
    if (
        not isinstance(lines, list | tuple)
        or len(lines) > _MAX_LINES
        or not all(isinstance(line, str) and line.isprintable() for line in lines)
    ):
        raise UsageError(
            "instructions in the secret's target is not a short list of lines",
            hint='write instructions = ["open ...", "make a new ..."]',
            code="rotation.target",
        )
    return list(lines)
