"""Which keys of a SOPS file are sealed, by the rules that it names itself; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keyturn.errors import Corrupt, Rejected

__all__ = ["DEFAULT_SUFFIX", "Rules"]

DEFAULT_SUFFIX: Final = "_unencrypted"

_CHOICES = ("unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex")
_BY_COMMENT = ("unencrypted_comment_regex", "encrypted_comment_regex")
_MAX_PATTERN = 1_000
# What Go's patterns and Python's both know, and mean the same by.
_COMMON = re.compile(
    r"(?:\(\?i\))?(?:[\w \-^$|.*+?,:/@%=~\[\]]|\((?!\?)|\(\?:|\)|\\[.dwsb\-$^|+*?()\[\]/_])*"
)
_NESTED = re.compile(r"\([^()]*[*+][^()]*\)[*+{]|\[\[|\[\]|\[\^\]|[*+?]\+|\[:")


@dataclass(frozen=True, slots=True)
class Rules:
    """
    Which values are sealed, and which count for the MAC.

    Args:
        choice: The one rule that holds, such as `encrypted_regex`.
        argument: Its suffix or pattern.
        only_sealed: The MAC is of what is sealed alone.
    """

    choice: str
    argument: str
    only_sealed: bool

    @classmethod
    def of(cls, metadata: Mapping[str, Any], *, file: str) -> Rules:
        """
        Return the rules of a file.

        Raises:
            Corrupt: It names two that exclude each other.
            Rejected: It names one that Keyturn does not know how to keep.
        """
        chosen = [name for name in _CHOICES if metadata.get(name)]
        if len(chosen) > 1:
            raise Corrupt(f"`{file}` has both `{chosen[0]}` and `{chosen[1]}`")
        by_comment = [name for name in _BY_COMMENT if metadata.get(name)]
        if by_comment:
            raise _unknown(file, by_comment[0])
        choice = chosen[0] if chosen else _CHOICES[0]
        argument = str(metadata[choice]) if chosen else DEFAULT_SUFFIX
        if choice.endswith("_regex") and not _is_common(argument):
            raise _unknown(file, choice)
        only_sealed = str(metadata.get("mac_only_encrypted")).lower() == "true"
        return cls(choice, argument, only_sealed)

    def seals(self, path: Sequence[str]) -> bool:
        """Tell whether what lies at *path* is sealed; one key on the way decides."""
        if self.choice.endswith("_suffix"):
            hit = any(key.endswith(self.argument) for key in path)
        else:
            pattern = re.compile(self.argument, re.ASCII)
            hit = any(pattern.search(key) is not None for key in path)
        return hit != self.choice.startswith("un")


def _is_common(pattern: str) -> bool:
    if len(pattern) > _MAX_PATTERN or not _COMMON.fullmatch(pattern) or _NESTED.search(pattern):
        return False
    try:
        re.compile(pattern, re.ASCII)
    except re.error:
        return False
    return True


def _unknown(file: str, name: str) -> Rejected:
    return Rejected(
        f"`{file}` says what is sealed by `{name}`, in a way that Keyturn cannot follow",
        hint="name what is sealed by a suffix, or by a simple pattern such as `^(DB|API)_`",
        code="store.form",
    )
