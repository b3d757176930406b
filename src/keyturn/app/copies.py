"""Reading back what was rendered for a consumer, whatever format it is in."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from keyturn._internal.filestate import read_bounded
from keyturn.core.value import SecretValue
from keyturn.deliver import VERSIONS_VARIABLE
from keyturn.errors import DeliveryError, UsageError
from keyturn.manifest import Render, RenderFormat, Secret, parse_env

__all__ = ["copy_files", "read_copy", "read_value", "versions_of"]

_LIMIT_BYTES = 1024 * 1024
_MOST_FILES = 10_000
_VERSIONS = re.compile(r"[a-z][a-z0-9-]{0,62}=[0-9]{1,9}(?: [a-z][a-z0-9-]{0,62}=[0-9]{1,9})*")


def copy_files(folder: Path, render: Render, secrets: tuple[Secret, ...]) -> list[Path]:
    """Return the files that a rendered copy of *secrets* consists of."""
    path = folder / render.path
    if render.format is not RenderFormat.FILES:
        return [path]
    return [path / name for secret in secrets for name in secret.variables]


def read_copy(folder: Path, render: Render) -> Mapping[str, SecretValue]:
    """
    Return what stands in the copy that *render* describes, by variable.

    Raises:
        OSError: It is absent, is no plain file, or may not be read.
        DeliveryError: It is not in the format that it ought to be in.
    """
    path = folder / render.path
    if render.format is RenderFormat.FILES:
        files = [file for file in sorted(path.iterdir())[:_MOST_FILES] if file.name[0] != "."]
        return {file.name: SecretValue(_read(file)) for file in files}
    data = _read(path)
    try:
        match render.format:
            case RenderFormat.DOTENV:
                entries = parse_env(data, file=render.path).entries
                return {entry.name: entry.value for entry in entries if not entry.commented_out}
            case RenderFormat.SHELL:
                return _shell(data)
            case RenderFormat.JSON:
                return _json(data)
    except (UsageError, ValueError, RecursionError):
        # Their words may quote what they stumbled over.
        raise DeliveryError(
            f"`{render.path}` is not in the format `{render.format}`",
            hint="`keyturn render` writes it anew",
            code="delivery.format",
        ) from None


def versions_of(found: Mapping[str, SecretValue]) -> dict[str, int] | None:
    """Return the versions that a copy or an environment says it has; None where it does not."""
    said = found.get(VERSIONS_VARIABLE)
    try:
        text = said.reveal_text() if said is not None else ""
    except ValueError:
        return None
    # Whatever stands there: only names and numbers are ever told.
    if not _VERSIONS.fullmatch(text):
        return None
    pairs = (part.partition("=") for part in text.split())
    return {name: int(number) for name, _, number in pairs}


def read_value(path: Path) -> SecretValue:
    """
    Return what stands in a file that holds one value, without the newline at its end.

    Raises:
        OSError: It is absent, or may not be read.
    """
    return SecretValue(_read(path).removesuffix(b"\n"))


def _read(path: Path) -> bytes:
    # Not blocking: a pipe in the file's place would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return read_bounded(descriptor, _LIMIT_BYTES)
    finally:
        os.close(descriptor)


def _shell(data: bytes) -> dict[str, SecretValue]:
    words = shlex.split(data.decode("utf-8", "surrogateescape"))
    pairs = (word.partition("=") for word in words if word != "export")
    return {name: SecretValue.from_text(text) for name, _, text in pairs}


def _json(data: bytes) -> dict[str, SecretValue]:
    match json.loads(data):
        case dict() as found:
            texts = {str(name): text for name, text in found.items() if isinstance(text, str)}
            return {name: SecretValue.from_text(text) for name, text in texts.items()}
        case _:
            raise ValueError("no object")
