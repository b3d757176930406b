"""The type of a secret value: hard to print by accident, easy to find when revealed."""

from __future__ import annotations

import hmac
from typing import NoReturn, final

__all__ = ["SecretValue"]

_MASK = "SecretValue(***)"


@final
class SecretValue:
    """
    The bytes of one field of one version.

    `reveal` and `reveal_text` are the only ways out, and a test keeps the list of
    the places that call them. Text forms are masked; pickling and copying into
    other formats are refused. CPython cannot promise that memory is wiped, and
    this class does not claim to: see `docs/internals/trust.md`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        # A wrong type must not be echoed by the error, so its value is left out.
        if not isinstance(value, bytes):
            raise TypeError("a SecretValue is made from bytes")
        self._value = value

    @classmethod
    def from_text(cls, text: str) -> SecretValue:
        """Return *text* as UTF-8 bytes; lone surrogates (undecodable input) round-trip."""
        return cls(text.encode("utf-8", "surrogateescape"))

    def reveal(self) -> bytes:
        """Return the bytes. The caller answers for where they go."""
        return self._value

    def reveal_text(self) -> str:
        """
        Return the value as text.

        Raises:
            ValueError: The bytes are not UTF-8; the message does not quote them.
        """
        try:
            return self._value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("the value is not UTF-8 text") from None

    @property
    def size_bytes(self) -> int:
        """The length, for limits and size checks."""
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        # Constant time in the content; a secret compared in a loop must not leak by timing.
        if not isinstance(other, SecretValue):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a value is not a key

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return _MASK

    def __str__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __copy__(self) -> SecretValue:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> SecretValue:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretValue cannot be pickled")

    def __init_subclass__(cls) -> None:
        raise TypeError("SecretValue cannot be subclassed")
