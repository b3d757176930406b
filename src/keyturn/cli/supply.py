"""Values that only a person can fetch: shown how, then asked for, read or left for later."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from keyturn.cli.output import Output
from keyturn.cli.prompt import ask_value, has_terminal, read_value
from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, UsageError

__all__ = ["PersonSupplier"]

_MAX_TRIES = 3


class PersonSupplier:
    """
    Asks at the terminal without echo, or takes what *source* holds.

    Args:
        source: `-` for standard input, a file, or None to ask.

    What was not accepted is kept in *refused*: the rotation goes on waiting for a
    better value, and the command tells that this one was no good. *taken* tells that
    one was accepted.
    """

    def __init__(self, output: Output, *, source: str | None) -> None:
        self._output = output
        self._source = source
        self.refused: KeyturnError | None = None
        self.taken = False

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
        if self._source is not None:
            try:
                values = self._read(fields)
            except UsageError as error:
                # Nothing, or nothing that can be read: what waits goes on waiting.
                self.refused = error
                return None
            return values if self._accepts(values, examine) else None
        if not has_terminal():
            return None
        for line in instructions:
            self._output.say(f"  {line}", important=True)
        return self._asked(fields, examine)

    def _asked(
        self, fields: Sequence[FieldName], examine: Callable[[Values], None]
    ) -> Values | None:
        for tried in range(_MAX_TRIES):
            try:
                values = {field: ask_value(f"New {field}", twice=False) for field in fields}
            except UsageError:
                # Nothing typed: the person is not ready, and may come back in days.
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

    def _read(self, fields: Sequence[FieldName]) -> Values:
        raw = read_value(self._source or "-", keep_newline=False)
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
