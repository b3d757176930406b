"""The seam through which randomness is read: the operating system's generator and nothing else."""

from __future__ import annotations

import os
from typing import Protocol

__all__ = ["Entropy", "SystemEntropy"]


class Entropy(Protocol):
    """Where random bytes come from."""

    def random_bytes(self, count: int) -> bytes:
        """Return *count* unpredictable bytes."""
        ...


class SystemEntropy:
    """`getrandom(2)` through `os.urandom`, which blocks until the kernel's pool is seeded."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)
