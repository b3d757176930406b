"""
Secrets that sign or seal sessions and cookies.

Where the application knows one value (`single`), sessions of the old one end when it is
given the new one. Where it takes a list (`list`), the first value signs and all are
accepted:

    phase 0   old,new   every process learns the new value before anything is signed with it
    phase 1   new,old   the new one signs; wait the grace, as sessions live so long
    phase 2   new       what the old one signed is refused

Each phase can go back to the one before it without refusing a session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import InternalError, Rejected, Unavailable, UsageError, VerificationFailed
from keyturn.targets._learnt_first import LAST_PHASE, LearntFirst
from keyturn.targets._target_table import faulty

__all__ = ["ListedSecret", "SingleSecret", "build"]

_VALUE = FieldName("value")
_COMMA = ","
_DEFAULT_KEEP = 2
_MOST_KEPT = 10
# The floor of 112 bits, in the densest alphabet that values are drawn from.
_LEAST_CHARACTERS = 18
_LEAST_DIFFERENT = 8
_MOST_DRAWS = 64


class _SessionKind(LearntFirst):
    """What both ways have in common: no system is told, so there is nothing to undo."""

    def __init__(self, *, make: Callable[[], Values]) -> None:
        self._make = make

    def retire(self, current: Values, old: Values) -> None:
        """Do nothing: no consumer has the old value any more."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        See that nothing of *old* is in what the application accepts now.

        Raises:
            VerificationFailed: Something is.
            Unavailable: Nothing is known of what it accepts.
        """
        return _require_absent(self.parts(old), self.parts(_known(current)))

    def parts(self, values: Values) -> list[str]:
        """Return what the application accepts, the one that signs first."""
        return [_text(values)]


class SingleSecret(_SessionKind):
    """One value, which the application knows alone."""

    overlaps = False

    def first_wait(self, grace_seconds: int) -> int:
        """Return the grace, which is not waited for: nothing overlaps."""
        return grace_seconds

    def later_waits(self, grace_seconds: int) -> Sequence[int]:  # noqa: ARG002 - the port's
        """Return nothing: there is one phase."""
        return ()

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        lines = [("create", "a new value"), ("check", "its length and that it is not the old one")]
        if current is not None:
            ends = "sessions and cookies that the old value signed end"
            lines.append(("deliver", f'{ends}; with `strategy = "list"` they would not'))
            lines.append(("prove", "the old value is not in what was delivered"))
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """Return a new value."""
        return self._make()

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Look at the value.

        Raises:
            VerificationFailed: It is short, repeats itself, or is the old one.
        """
        if current is not None and _text(current) == _text(pending):
            raise VerificationFailed("the new value is the old one")
        return _require_strong(self.parts(pending)[:1])

    def probe(self, values: Values) -> Evidence:
        """Look at the value."""
        return _require_strong(self.parts(values))

    def rehearsal(self) -> RotationKind | None:
        """Return itself: a value that is not delivered is a throw-away one."""
        return self


class ListedSecret(_SessionKind):
    """
    A list of values with commas between them.

    Args:
        keep: How many the application accepts.
    """

    def __init__(self, *, make: Callable[[], Values], name: str, keep: int) -> None:
        super().__init__(make=make)
        self._name = name
        self._keep = keep

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        if current is None:
            return [("create", "a new value"), ("check", "its length")]
        lines = [
            ("create", "a new value at the second place of the list: accepted, and signs nothing"),
            ("check", "the length of the new value, and that none is there twice"),
            ("advance", "the new value signs; the old one stays in the list"),
            ("advance", "the old value leaves the list"),
            ("prove", "the old value is not in the list that was delivered"),
        ]
        dropped = len(self._require_list(current)) + 1 - self._keep
        if dropped > 0:
            lines.append(
                ("deliver", f"{dropped} of the oldest leave the list at once: keep = {self._keep}")
            )
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Return the list in which the new value is the second.

        Raises:
            Rejected: The present value has commas and is no list.
        """
        new = self._draw()
        if current is None:
            return _listed([new])
        first, *others = self._require_list(current)
        return _listed([first, new, *others][: self._keep])

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Look at the new value and at the list.

        Raises:
            VerificationFailed: It is short, repeats itself, or one is there twice.
        """
        found = self.parts(pending)
        if len(set(found)) != len(found):
            raise VerificationFailed("one value is in the list twice")
        if len(found) > self._keep:
            raise VerificationFailed(f"the list has more than {self._keep} values")
        if current is None:
            return _require_strong(found)
        if found[0] != self.parts(current)[0]:
            raise VerificationFailed("the value that signs is not the present one")
        return _require_strong(found[1:2])

    def advance(self, current: Values, phase: int) -> Values:
        """
        Return the list with the new value first, or alone.

        Raises:
            VerificationFailed: *current* is of no such rotation.
        """
        found = self.parts(current)
        if phase == LAST_PHASE:
            return _listed(found[:1])
        if phase != 1:
            raise InternalError(f"a session secret was asked for phase {phase}")
        if len(found) < _DEFAULT_KEEP:
            raise VerificationFailed("the list in use has no second value")
        old, new, *others = found
        return _listed([new, old, *others])

    def probe(self, values: Values) -> Evidence:
        """Look at every value of the list."""
        return _require_strong(self.parts(values))

    def rehearsal(self) -> RotationKind | None:
        """Return the same steps; what is thrown away is the new value."""
        return _Rehearsal(make=self._make, name=self._name, keep=self._keep)

    def parts(self, values: Values) -> list[str]:
        """Return the values of the list."""
        return _text(values).split(_COMMA)

    def _require_list(self, current: Values) -> list[str]:
        found = self.parts(current)
        # One value, however weak, may be replaced; of several each has to be one.
        doubtful = any(len(part) < _LEAST_CHARACTERS or part != part.strip() for part in found)
        if len(found) > 1 and doubtful:
            raise Rejected(
                f"the present value of `{self._name}` has commas in it and is no list of values",
                hint=f"give it one without a comma: keyturn set {self._name}",
                code="value.form",
            )
        return found

    def _draw(self) -> str:
        # Some alphabets have a comma, and the list has no other mark between values.
        for _ in range(_MOST_DRAWS):
            text = _text(self._make())
            if _COMMA not in text:
                return text
        raise UsageError(
            f"every new value of `{self._name}` has a comma in it, which a list cannot have",
            hint='write in keyturn.toml: generate = { format = "base64", bytes = 32 }',
            code="generate.policy",
        )


class _Rehearsal(ListedSecret):
    """Ends with the new value, which no application has."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        if current is None:
            return Evidence("not in use", "nothing was delivered yet")
        return _require_absent(self.parts(old)[1:2], self.parts(current))


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a session secret.

    Raises:
        UsageError: There is no such strategy, or `keep` is no such number.
    """
    if context.strategy in (None, "single"):
        return SingleSecret(make=context.make)
    if context.strategy != "list":
        raise UsageError(
            f"there is no strategy `{context.strategy}` for a `session-secret`",
            hint='write in keyturn.toml: strategy = "single" or strategy = "list"',
            code="rotation.target",
        )
    keep = context.target.get("keep", _DEFAULT_KEEP)
    if not isinstance(keep, int) or not _DEFAULT_KEEP <= keep <= _MOST_KEPT:
        raise faulty(
            context,
            f"has a `keep` that is no number from {_DEFAULT_KEEP} to {_MOST_KEPT}",
            f"write keep = {_DEFAULT_KEEP}",
        )
    return ListedSecret(make=context.make, name=context.ref.name, keep=keep)


def _text(values: Values) -> str:
    try:
        return values[_VALUE].reveal_text()
    except (KeyError, ValueError):
        raise VerificationFailed("`value` has no value, or is not text") from None


def _listed(parts: Sequence[str]) -> Values:
    return {_VALUE: SecretValue.from_text(_COMMA.join(parts))}


def _known(current: Values | None) -> Values:
    if current is None:
        raise Unavailable(
            "what the application accepts now is not known, so that nothing is proven",
            code="target.unavailable",
        )
    return current


def _require_strong(parts: Sequence[str]) -> Evidence:
    for part in parts:
        if len(part) < _LEAST_CHARACTERS or len(set(part)) < _LEAST_DIFFERENT:
            raise VerificationFailed(
                "a value is too short or repeats itself",
                hint="rotate it, or give it another with `keyturn set`",
                code="value.form",
            )
    count = len(parts)
    return Evidence("form", f"{count} {'value' if count == 1 else 'values'} of full length")


def _require_absent(old: Sequence[str], accepted: Sequence[str]) -> Evidence:
    if set(old) & set(accepted):
        raise VerificationFailed(
            "the old value is still among those that were delivered",
            hint="see with `keyturn history` which version is in use",
            code="target.still-works",
        )
    return Evidence("absent", "the old value is not in what was delivered")
