"""Questions to the person at the terminal: on the terminal device, never on the streams."""

from __future__ import annotations

import sys
from pathlib import Path

from keyturn.core.value import SecretValue
from keyturn.errors import AccessDenied, UsageError

__all__ = ["ask_value", "confirm", "has_terminal", "read_value"]

_MAX_BYTES = 10 * 1024 * 1024


def has_terminal() -> bool:
    """Tell whether there is a terminal to ask on."""
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False


_INSTEAD = "give the value on standard input with `-`, or in a file with `--from-file`"


def ask_value(label: str, *, twice: bool = True, instead: str = _INSTEAD) -> SecretValue:
    """
    Ask for a value without echo.

    Args:
        twice: Ask again and compare, as for a value that cannot be read back.
        instead: What to do where there is no terminal.

    Raises:
        UsageError: There is no terminal, the answer is empty, or the two differ.
    """
    import getpass

    if not has_terminal():
        raise UsageError(f"there is no terminal to ask for {label} on", hint=instead)
    first = SecretValue.from_text(getpass.getpass(f"{label}: "))
    if not first:
        raise UsageError("the value is empty", hint="type it, or paste it, and press Enter")
    if twice and first != SecretValue.from_text(getpass.getpass(f"{label}, again: ")):
        raise UsageError("the two values differ", hint="nothing was stored; try again")
    return first


def read_value(source: str, *, keep_newline: bool) -> SecretValue:
    """
    Read a value from standard input (`-`) or the file *source*, byte for byte.

    Args:
        keep_newline: Keep one final newline; otherwise it is taken as the end of
            the line that a shell or editor put there.

    Raises:
        UsageError: It cannot be read, is empty, or is over 10 MiB.
    """
    try:
        if source == "-":
            if sys.stdin is None:
                raise UsageError("standard input is closed", hint="pipe the value into it")
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"`{source}` cannot be read: {error.strerror}", hint="nothing was stored"
        ) from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"the value is over {_MAX_BYTES} bytes", hint="a secret is not a file")
    if not keep_newline and data.endswith(b"\n"):
        data = data[:-1].removesuffix(b"\r")
    if not data:
        # As from a pipe whose first program failed.
        raise UsageError("the value is empty", hint="nothing was stored")
    return SecretValue(data)


def confirm(question: str, *, yes: bool, flag: str = "--yes") -> None:
    """
    Ask *question* and go on only after a yes.

    Raises:
        UsageError: There is no terminal and *flag* was not given.
        AccessDenied: The answer was no.
    """
    if yes:
        return
    if not has_terminal():
        raise UsageError(f"{question} (not asked: no terminal)", hint=f"give `{flag}`")
    with Path("/dev/tty").open("r+b", buffering=0) as terminal:
        terminal.write(f"{question} [y/N] ".encode())
        answer = terminal.readline(16).strip().lower()
    if answer not in (b"y", b"yes"):
        raise AccessDenied("not confirmed", hint="nothing was changed")
