"""Values that only a person can fetch: shown how, then asked for, read or left for later."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from keyturn.cli.output import Output
from keyturn.cli.prompt import ask_value, has_terminal, read_value
from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, UsageError

__all__ = ["PersonSupplier", "read_given"]

_MAX_TRIES = 3


class PersonSupplier:
    """
    Gives what was read before, or asks at the terminal without echo.

    Args:
        given: What was read from a file or standard input; None to ask.
        aside: Keeps what else is shown still while a person is asked.

    What was not accepted is kept in *refused*: the rotation goes on waiting for a
    better value, and the command tells that this one was no good. *taken* tells that
    one was accepted, *shown* that a person was told what to do.
    """

    def __init__(
        self,
        output: Output,
        *,
        given: Values | None = None,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._output = output
        self._given = given
        self._aside = aside
        self.refused: KeyturnError | None = None
        self.taken = False
        self.shown = False

    def supply(
        self,
        instructions: Sequence[str],
        fields: Sequence[FieldName],
        examine: Callable[[Values], None],
    ) -> Values | None:
        """
        Return values that *examine* accepted; None where nobody is there to be asked.

        Raises:
            Unavailable: Whoever could say whether it is right did not answer.
        """
        if self._given is not None:
            return self._given if self._accepts(self._given, examine) else None
        if not has_terminal():
            return None
        with self._aside():
            if not self.shown:
                for line in instructions:
                    self._output.say(f"  {line}", important=True)
            self.shown = True
            return self._asked(fields, examine)

    def _asked(
        self, fields: Sequence[FieldName], examine: Callable[[Values], None]
    ) -> Values | None:
        for tried in range(_MAX_TRIES):
            try:
                values = {field: ask_value(f"New {field}", twice=False) for field in fields}
            except UsageError:
                # Nothing typed: the person is not ready, and may come back in days.
                self.refused = None
                return None
            if self._accepts(values, examine):
                return values
            if self.refused is not None and tried < _MAX_TRIES - 1:
                self._output.error(self.refused)
        return None

    def _accepts(self, values: Values, examine: Callable[[Values], None]) -> bool:
        self.refused = None
        try:
            examine(values)
        except KeyturnError as error:
            if error.retryable:
                raise
            self.refused = error
            return False
        self.taken = True
        return True


def read_given(source: str, fields: Sequence[FieldName]) -> Values:
    """
    Read values for *fields* from standard input (`-`) or the file *source*.

    Raises:
        UsageError: It cannot be read, is empty, or has not one text for each field.
    """
    raw = read_value(source, keep_newline=False)
    if len(fields) == 1:
        return {fields[0]: raw}
    listed = ", ".join(f'"{field}": "..."' for field in fields)
    wrong = UsageError(
        "what was read is not one text for each field",
        hint=f"give one JSON object: {{{listed}}}",
    )
    try:
        found = json.loads(raw.reveal())
    except ValueError:
        raise wrong from None
    if not isinstance(found, dict) or set(found) != set(fields):
        raise wrong
    if not all(isinstance(text, str) and text for text in found.values()):
        raise wrong
    return {field: SecretValue.from_text(found[field]) for field in fields}
