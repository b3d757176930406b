"""
A credential that programs of the team change: create, apply, check, retire, withdraw, status.

Each is a list of arguments, run without a shell. It is given one line of JSON on its
standard input:

    {"version": 1, "step": "retire", "secret": "...", "environment": "...",
     "project": "...", "fields": ["..."], "token": "..." or null,
     "current": {...} or null, "pending": {...} or null, "old": {...} or null,
     "admin": {...} or null}

and it answers by its exit status. 1 and 2 are not among the answers, because that is
what a program ends with that broke:

    0     done; of `status`: the credential works
    10    refused: a definite no, nothing was changed; of `status`: it does not work
    75    not now: nothing was changed, try again later
    77    a person has to do something first: standard error says what
    else  it broke: nobody knows what was done; it is run again, and asks first

`create` prints the new values as one JSON object of text. Run again with the same
token, it ends or returns what it made before. `status` is given the values in
question as `pending`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

from keyturn.core.ids import FieldName, Token, is_field_name
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import OutcomeUnknown, Unavailable, UsageError, VerificationFailed
from keyturn.manifest.durations import parse_duration
from keyturn.targets._base import OnePhase
from keyturn.targets._command_programs import BY_HAND, Programs

__all__ = ["Command", "build"]

_USERNAME = FieldName("username")
_STEPS = ("create", "apply", "check", "retire", "withdraw", "status")
_DEFAULT_TIMEOUT = "60s"


class Command(OnePhase):
    """The steps of one secret, done by its programs."""

    def __init__(self, programs: Programs, context: KindContext, *, overlaps: bool) -> None:
        self.overlaps = overlaps
        self._programs = programs
        self._fields = context.fields

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - the port's
        """Return which program a rotation runs at each step."""
        programs = self._programs.commands
        lines = [("create", _line(programs["create"], ""))]
        until = "the old value goes on working" if self.overlaps else "the old value is refused"
        lines.append(("apply", f"{_line(programs.get('apply'), 'nothing')}; {until}"))
        lines.append(("check", _line(programs.get("check") or programs["status"], "")))
        lines.append(("retire", _line(programs.get("retire"), "nothing: it ended with `apply`")))
        lines.append(("prove", f"{_line(programs['status'], '')}, and it refuses the old value"))
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Run `create`, and return the values that it prints.

        Raises:
            OutcomeUnknown: It broke, or printed something else.
        """
        ended = self._programs.change("create", {"current": current}, token=token)
        return _printed(ended.output, self._fields)

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:  # noqa: ARG002 - the port's
        """Run `withdraw` with the token and no values: it ends what `create` made with it."""
        if self._programs.has("withdraw"):
            self._programs.change("withdraw", {}, token=token)

    def apply(self, current: Values | None, pending: Values) -> None:
        """Run `apply`, where there is one."""
        if self._programs.has("apply"):
            self._programs.change("apply", {"current": current, "pending": pending})

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Run `check`, else `status`.

        Raises:
            VerificationFailed: It refused.
        """
        step = "check" if self._programs.has("check") else "status"
        if not self._programs.answers(step, {"current": current, "pending": pending}):
            raise VerificationFailed(
                f"`{self._programs.commands[step][0]}` (`{step}`) says that the new value does not"
                " work",
                code="target.login-refused",
            )
        return Evidence("accepted", f"by `{step}`")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Run `withdraw`; without one, `retire` with *pending* as the old value."""
        if self._programs.has("withdraw"):
            self._programs.change("withdraw", {"current": current, "pending": pending})
        elif self._programs.has("retire"):
            self._programs.change("retire", {"current": current, "old": pending})

    def retire(self, current: Values, old: Values) -> None:
        """
        Run `retire`, where there is one.

        Raises:
            VerificationFailed: *current* does not work, so the old one is let be.
        """
        if not self._programs.has("retire"):
            return
        self.probe(current)
        self._programs.change("retire", {"current": current, "old": old})

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Ask `status` for *old* and be told that it does not work.

        Raises:
            VerificationFailed: It works.
            Unavailable: *current* does not work either, or there was no answer.
        """
        if current is not None and not self._programs.answers("status", {"pending": current}):
            raise Unavailable(
                "`status` says of the value in use too that it does not work, so that nothing is"
                " proven",
                hint=BY_HAND,
                code="target.unavailable",
            )
        if self._programs.answers("status", {"pending": old}):
            raise VerificationFailed(
                "`status` says that the old value still works",
                hint="see what `retire` did, and run it by hand",
                code="target.still-works",
            )
        return Evidence("refused", "by `status`")

    def probe(self, values: Values) -> Evidence:
        """
        Ask `status`.

        Raises:
            VerificationFailed: They do not work.
            Unavailable: There was no answer.
        """
        if not self._programs.answers("status", {"pending": values}):
            raise VerificationFailed(
                "`status` says that the value does not work", code="target.login-refused"
            )
        return Evidence("accepted", "by `status`")

    def counted_on(self, values: Values) -> SecretValue | None:
        """Return the user name, where there is one: `status` may log in by it."""
        return values.get(_USERNAME)

    def rehearsal(self) -> RotationKind | None:
        """Return itself where old and new are both valid; None where trying it would do it."""
        return self if self.overlaps else None


def build(context: KindContext) -> RotationKind:
    """
    Return the steps for one secret that programs change.

    Raises:
        UsageError: A program is missing, or is not a list of arguments.
    """
    commands = {step: _arguments(context, step) for step in _STEPS if step in context.target}
    overlaps = _overlaps(context.strategy)
    needed = ("create", "retire") if overlaps else ("create", "apply", "withdraw")
    for step in ("status", *needed):
        if step not in commands:
            _refuse(step, "is needed")
    folder = context.target.get("folder")
    programs = Programs(
        commands=commands,
        about={
            "version": 1,
            "secret": context.ref.name,
            "environment": context.ref.environment,
            "project": context.project,
            "fields": list(context.fields),
        },
        admin=context.admin,
        timeout_seconds=_timeout(context.target.get("timeout", _DEFAULT_TIMEOUT)),
        folder=folder if isinstance(folder, str) else None,
        clock=context.clock,
    )
    return Command(programs, context, overlaps=overlaps)


def _overlaps(strategy: str | None) -> bool:
    if strategy not in (None, "overlap", "in-place"):
        raise UsageError(
            f"there is no strategy `{strategy}` for a `command`",
            hint='write in keyturn.toml: strategy = "overlap" or strategy = "in-place"',
            code="rotation.target",
        )
    return strategy != "in-place"


def _arguments(context: KindContext, step: str) -> Sequence[str]:
    found = context.target[step]
    words = list(found) if isinstance(found, (list, tuple)) else []
    if not words or not words[0] or not all(isinstance(word, str) for word in words):
        _refuse(step, "is no list of arguments")
    return words


def _timeout(found: object) -> float:
    span = parse_duration(found) if isinstance(found, str) else found
    if not isinstance(span, timedelta) or not span:
        raise UsageError(
            "`timeout` of the command's target is no duration",
            hint=f'write in keyturn.toml: timeout = "{_DEFAULT_TIMEOUT}"',
            code="rotation.target",
        )
    return span.total_seconds()


def _printed(output: bytes, declared: Sequence[FieldName]) -> Values:
    try:
        found = json.loads(output)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        is_field_name(name) and isinstance(text, str) and text for name, text in found.items()
    ):
        raise OutcomeUnknown("`create` did not print one JSON object of text", hint=BY_HAND)
    missing = [name for name in declared if name not in found]
    if missing:
        raise OutcomeUnknown(f"`create` printed no `{', '.join(missing)}`", hint=BY_HAND)
    return {FieldName(name): SecretValue.from_text(text) for name, text in found.items()}


def _line(command: Sequence[str] | None, otherwise: str) -> str:
    return f"run `{' '.join(command)}`" if command else otherwise


def _refuse(step: str, what: str) -> NoReturn:
    raise UsageError(
        f"`{step}` of the command's target {what}",
        hint=f'write in keyturn.toml: {step} = ["./tools/rotate", "{step}"]',
        code="rotation.target",
    )
