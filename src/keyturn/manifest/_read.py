"""Typed access to a table that `shapes.check` has passed: a key is absent or of its form."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["flag", "number", "table", "tables", "text", "texts"]


def text(source: Mapping[str, object], key: str) -> str | None:
    """Return the text under *key*."""
    value = source.get(key)
    return value if isinstance(value, str) else None


def flag(source: Mapping[str, object], key: str, *, default: bool) -> bool:
    """Return the truth under *key*."""
    value = source.get(key)
    return value if isinstance(value, bool) else default


def number(source: Mapping[str, object], key: str) -> int | None:
    """Return the number under *key*."""
    value = source.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def texts(source: Mapping[str, object], key: str) -> tuple[str, ...] | None:
    """Return the texts of the list under *key*."""
    value = source.get(key)
    return tuple(str(item) for item in value) if isinstance(value, list) else None


def table(source: Mapping[str, object], key: str) -> Mapping[str, object] | None:
    """Return the table under *key*."""
    value = source.get(key)
    return value if isinstance(value, dict) else None


def tables(source: Mapping[str, object], key: str) -> Mapping[str, Mapping[str, object]]:
    """Return the tables of the table under *key*; empty where there is none."""
    found = table(source, key) or {}
    return {name: value for name, value in found.items() if isinstance(value, dict)}
