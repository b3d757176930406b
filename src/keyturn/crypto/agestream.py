"""
Streams in the age format (age-encryption.org/v1): sealed and opened piece by piece.

Neither way holds more than a few pieces of 64 KiB. What `open_stream` hands on is
authentic so far, and may still be cut: that it was all is known when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from keyturn.core.value import SecretValue
from keyturn.crypto.agefile import identity_of, recipient_of
from keyturn.errors import Corrupt, Sealed, UsageError

__all__ = ["open_stream", "seal_stream"]

_NO_MATCH = "No matching keys found"


def seal_stream(
    pieces: Iterable[bytes], write: Callable[[bytes], object], recipients: Sequence[str]
) -> None:
    """
    Seal *pieces*, one after the other, so that any of *recipients* can open them.

    Args:
        write: Takes what is sealed. What it raises, as what *pieces* raises, comes out.

    Raises:
        UsageError: There is no recipient, or one is malformed.
    """
    import pyrage

    if not recipients:
        raise UsageError("an age file needs a recipient")
    keys = [recipient_of(text) for text in recipients]
    source, sink = _Source(pieces), _Sink(write)
    try:
        pyrage.encrypt_io(source, sink, keys)
    except BaseException:
        # The library puts its own in the place of ours, and quotes its text.
        _raise_first(source, sink)
        raise
    # It does not tell where its last write failed.
    _raise_first(source, sink)


def open_stream(
    sealed: BinaryIO,
    take: Callable[[bytes], object],
    identities: Sequence[SecretValue],
    *,
    what: str,
) -> None:
    """
    Open what `seal_stream` sealed, and give it to *take* piece by piece.

    Args:
        take: What it raises comes out.
        what: Names the thing in an error.

    Raises:
        Sealed: It is for none of *identities*.
        Corrupt: It was changed or cut, or is no age file.
    """
    import pyrage

    keys = [identity_of(identity) for identity in identities]
    sink = _Sink(take)
    try:
        pyrage.decrypt_io(sealed, sink, keys)
    except BaseException as error:
        _raise_first(sink)
        if not isinstance(error, pyrage.DecryptError | ValueError | OSError):
            raise
        # The library tells the two apart by its text alone.
        if str(error) == _NO_MATCH:
            raise Sealed(
                f"{what} is not for any age identity here",
                hint="give the identity of one of its recipients",
                code="backup.identity",
            ) from None
        raise Corrupt(
            f"{what} is damaged, cut short, or no age file",
            hint="take another copy of it; nothing of this one was used",
            code="backup.corrupt",
        ) from None
    _raise_first(sink)


def _raise_first(*sides: _Source | _Sink) -> None:
    for side in sides:
        if side.failed is not None:
            raise side.failed from None


class _Source:
    """What the library reads from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self.failed: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._pieces))
        except StopIteration:
            return b""
        except BaseException as error:
            self.failed = error
            raise
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


class _Sink:
    """What the library writes to."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.failed: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._write(bytes(data))
        except BaseException as error:
            self.failed = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""
