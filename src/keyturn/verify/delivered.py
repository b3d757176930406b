"""Whether delivered copies are the ones that the store would deliver now."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from keyturn._internal.filestate import file_differences, read_bounded
from keyturn.core.value import SecretValue
from keyturn.verify.findings import Finding, Severity

__all__ = ["DeliveredCopy", "check_delivered"]

_LIMIT_BYTES = 64 * 1024 * 1024
# The one variable that may be quoted from a delivered file. Whatever stands there,
# only names and numbers match.
_VERSIONS = re.compile(
    rb"""KEYTURN_VERSIONS["']?\s*[=:]\s*["']?"""
    rb"""([a-z][a-z0-9-]{0,62}=[0-9]{1,9}(?: [a-z][a-z0-9-]{0,62}=[0-9]{1,9})*)["'\n]"""
)


@dataclass(frozen=True, slots=True)
class DeliveredCopy:
    """
    A file as it ought to be; -1 where any owner or group will do.

    Args:
        name: How the copy is called in findings.
    """

    name: str
    path: Path
    expected: SecretValue
    mode: int
    uid: int = -1
    gid: int = -1


def check_delivered(copy: DeliveredCopy) -> list[Finding]:
    """Return what is wrong with a delivered copy: its bytes, its mode, its owner."""
    words = file_differences(
        copy.path, copy.expected.reveal(), mode=copy.mode, uid=copy.uid, gid=copy.gid
    )
    return [_finding(copy, word) for word in words]


def _finding(copy: DeliveredCopy, words: str) -> Finding:
    code = "delivered.absent" if words == "is absent" else "delivered.attributes"
    if words == "content differs":
        code = "delivered.stale"
        words += _told_apart(copy)
    return Finding(code, Severity.BAD, copy.name, words)


def _told_apart(copy: DeliveredCopy) -> str:
    found = _versions_in(_read(copy.path))
    expected = _versions_in(copy.expected.reveal())
    if found is None or expected is None or found == expected:
        return ""
    return f": it holds {found} and ought to hold {expected}"


def _versions_in(content: bytes) -> str | None:
    matches = _VERSIONS.findall(content)
    # One only: a value may hold a text of that form, and then none can be trusted.
    if len(matches) != 1:
        return None
    found: bytes = matches[0]
    return found.decode("ascii")


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return read_bounded(descriptor, _LIMIT_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
