"""
Whether a sealed bundle whose short life has ended is still true, and until when then.

A bundle of what lies in a store of others says under `recheck` how one request tells
whether anything has changed there. Where nothing has, it is good for another such life,
which the stamp `fresh.ENVIRONMENT` in the key folder remembers, and for a day in all.

    CHECKED DIGEST        the second in which it was asked; SHA-256 of the sealed bytes, a
                          space and CHECKED

So a stamp speaks for one bundle and one moment: with another bundle in the place, or
torn, it says nothing, and the store is asked again.
"""

import os

from keyturn._fastaudit import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Bundle(Protocol):
        """As much of `fast.Bundle` as is used here."""

        head: dict[bytes, list[list[bytes]]]

        def one(self, word: bytes) -> list[bytes]: ...

        def entries(self) -> list[tuple[list[bytes], bytes]]: ...


SKEW_SECONDS = 300  # as `keyturn.fast` has it
LONGEST_SECONDS = 24 * 3600
STAMP, STAMP_BYTES = "fresh", 256  # the file's name before the environment's
_KIND_AND_OTHERS = 0o170077
_PLAIN_FILE = 0o100000


def require_true(
    bundle: "Bundle", sealed: bytes, path: str, now: float, read: "Callable[[str, int], bytes]"
) -> None:
    """
    Refuse *bundle*, whose own life has ended, unless it may be served all the same.

    Args:
        sealed: The bytes it was opened from.
        path: Of the stamp.
        read: `fast.read_private`.

    Raises:
        ValueError: It is stale.
        Exception: There is no answer to rely on.
    """
    created, ended = int(bundle.one(b"created")[0]), int(bundle.one(b"not_after")[0])
    rows = bundle.head.get(b"recheck")
    if not rows or now >= created + LONGEST_SECONDS:
        raise ValueError("stale")
    try:
        checked = checked_at(read(path, STAMP_BYTES), sealed)
    except OSError:
        checked = 0
    if checked - SKEW_SECONDS <= now < checked + ended - created:
        return
    if not _is_unchanged(bundle, rows):
        raise ValueError("stale: the store holds something else")
    try:
        _remember(path, stamp(int(now), sealed))
    except OSError:
        return  # the next one asks again


def checked_at(mark: bytes, sealed: bytes) -> int:
    """Return the second in which *sealed* was last found to be true; 0 where *mark* says none."""
    digits = mark.partition(b" ")[0]
    is_ours = digits.isdigit() and mark == stamp(int(digits), sealed)
    return int(digits) if is_ours else 0


def stamp(checked: int, sealed: bytes) -> bytes:
    """Return what says that *sealed* was true in the second *checked*."""
    return b"%d %b\n" % (checked, sha256(sealed + b" %d" % checked).hexdigest().encode("ascii"))


def _is_unchanged(bundle: "Bundle", rows: "list[list[bytes]]") -> bool:
    kind = rows[0][1:] if rows[0][0] == b"kind" else []
    if kind == [b"vault"]:
        from keyturn._fastread.vault import holds

        sealed = {b".".join(row[1:4:2]): value for row, value in bundle.entries()}
        return holds(rows, sealed)
    if kind == [b"aws"]:
        from keyturn._fastread.aws import are_current

        return are_current(rows)
    return False


def _remember(path: str, mark: bytes) -> None:
    """
    Write the stamp.

    Crash safety:
        Not durable. Where it is absent or torn, the store is asked again.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and status.st_mode & _KIND_AND_OTHERS == _PLAIN_FILE:
            os.pwrite(descriptor, mark, 0)
            os.ftruncate(descriptor, len(mark))
    finally:
        os.close(descriptor)
