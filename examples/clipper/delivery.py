"""What Keyturn delivers to the backend: the file that it keeps current, and how to read it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "ENV_FILE",
    "BadSettings",
    "complete",
    "delivered",
    "read_dotenv",
    "read_versions",
    "versions_text",
]

ENV_FILE = Path(os.environ.get("CLIPPER_ENV_FILE") or "run/backend.env")
REQUIRED = (
    "DB_HOST",
    "DB_PORT",
    "DB_USER",
    "DB_PASSWORD",
    "DB_NAME",
    "DB_SSLMODE",
    "ENVIRONMENT",
    "PORT",
)


class BadSettings(Exception):
    """The environment or the file that replaces it cannot be used; the text says why."""


def complete(settings: Mapping[str, str], source: str) -> Mapping[str, str]:
    """Return *settings*, or raise with the names of all that are missing."""
    missing = [name for name in REQUIRED if not settings.get(name)]
    if missing:
        raise BadSettings(f"{source} lacks {', '.join(missing)}")
    for name in ("PORT", "DB_PORT", "REDIS_PORT"):
        if not settings.get(name, "1").isdecimal():
            raise BadSettings(f"{name} in {source} is not a number")
    return settings


def delivered() -> dict[str, str]:
    """Return what the file says that Keyturn keeps current for this service."""
    return read_dotenv(ENV_FILE.read_bytes().decode(errors="surrogateescape"))


def read_versions(text: str) -> dict[str, int]:
    """Return `db=3 jwt=1` as a mapping."""
    try:
        return {name: int(number) for name, number in (item.split("=") for item in text.split())}
    except ValueError:
        raise BadSettings("KEYTURN_VERSIONS does not read like `db=3 jwt=1`") from None


def versions_text(versions: Mapping[str, int]) -> str:
    return " ".join(f"{name}={number}" for name, number in versions.items()) or "no versions"


# An entry of the rendered file: a bare word, 'as it stands' or "with a \ before some".
_LINE = re.compile(
    r"""^(?:export\ )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=
        (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\s'"#]*) )
        [ \t]*$""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


def read_dotenv(text: str) -> dict[str, str]:
    """Return the variables of a dotenv file as Keyturn renders it."""
    found = {}
    for match in _LINE.finditer(text):
        value = match["single"] if match["single"] is not None else match["bare"]
        if match["double"] is not None:
            value = re.sub(r"\\(.)", r"\1", match["double"], flags=re.DOTALL)
        found[match["name"]] = value
    return found
