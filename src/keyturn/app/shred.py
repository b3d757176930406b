"""Remove a file that holds values, as well as a file system lets one."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName, VariableName
from keyturn.errors import UsageError
from keyturn.manifest import EnvEntry, EnvFile, find_values, holds_value, is_placeholder

__all__ = ["kept_nowhere", "shred"]


def shred(path: Path) -> None:
    """
    Overwrite *path* with zeros, sync, and remove it.

    A journaling, copy-on-write or flash file system may keep older blocks; the
    caller says so to the person.

    Raises:
        UsageError: *path* is not a plain file of ours.
    """
    try:
        # Not blocking: a pipe in the file's place would be waited for.
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        raise UsageError(
            f"`{path}` cannot be overwritten: {error.strerror}", hint="remove it yourself"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"`{path}` is no plain file", hint="remove it yourself")
        left = status.st_size
        while left > 0:
            left -= os.write(descriptor, bytes(min(left, 65536)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    durable.unlink(path)


def kept_nowhere(session: Session, environment: EnvironmentName, file: EnvFile) -> list[str]:
    """
    Return the places in *file* where something stands that an import takes nowhere.

    Those are values that are commented out or replaced by a later line, and comments
    that hold one. What only stands for a value is no loss, nor is one that the line
    which counts holds too.
    """
    secrets = _secret_variables(session, environment)
    live = {entry.name: entry for entry in file.live}
    commented = (entry for entry in (*file.entries, *file.replaced) if entry.commented_out)
    found: dict[int, str] = {}
    for entry in file.replaced:
        last = live.get(entry.name)
        if not entry.commented_out and entry.value and last and entry.value != last.value:
            found[entry.line] = f"{entry.name} (line {entry.line}, which line {last.line} replaces)"
    for entry in commented:
        same = live.get(entry.name)
        if _is_real(entry, secrets) and (same is None or entry.value != same.value):
            found[entry.line] = f"{entry.name} (commented out, line {entry.line})"
    harmless = {entry.line for entry in (*file.entries, *file.replaced) if entry.commented_out}
    for line, text in file.remarks:
        what = next((what for _, what in find_values(text)), None)
        if what is not None and line not in harmless:
            found[line] = f"{what} (in the comment on line {line})"
    return [found[line] for line in sorted(found)]


def _is_real(entry: EnvEntry, secrets: Collection[VariableName]) -> bool:
    # Only to tell a value from what stands for one.
    text = entry.value.reveal_text()
    if is_placeholder(text):
        return False
    return entry.name in secrets or holds_value(entry.name, text) is not None


def _secret_variables(session: Session, environment: EnvironmentName) -> set[VariableName]:
    """Return the variables whose values are secret; a login's name is not."""
    return {
        variable
        for secret in session.manifest.secrets_in(environment)
        for variable, name in secret.variables.items()
        if name not in secret.identifiers
    }
