"""How the fast path asks a store of others whether anything has changed there: the lines for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import VersionedValue

__all__ = ["Rechecked", "server_rows"]

_PORTS = {"https": 443, "http": 80}


@runtime_checkable
class Rechecked(Protocol):
    """A store, or its layout, that a few requests can be made to without its client."""

    def recheck(
        self,
        environment: EnvironmentName,
        declared: Mapping[SecretName, Collection[FieldName]],
        given: Mapping[SecretName, VersionedValue],
    ) -> Sequence[Sequence[str]]:
        """
        Return the lines by which `keyturn._fastread` asks whether *given* is still current.

        Args:
            declared: Every secret that is delivered, with its fields.
            given: Those that have a value, as they were read.

        Returns:
            Words without spaces, but for the last; the first line is `kind` and the
            kind. They hold no secret. None of them where it cannot be asked.
        """
        ...


def server_rows(address: str, ca_file: str | None) -> list[tuple[str, ...]]:
    """Return the lines that say where a server is; *address* went through `checked_address`."""
    parts = urlsplit(address)
    rows: list[tuple[str, ...]] = [
        ("tls", "yes" if parts.scheme == "https" else "no"),
        ("host", parts.hostname or ""),
        ("port", str(parts.port or _PORTS[parts.scheme])),
        ("authority", parts.netloc),
    ]
    return rows if ca_file is None else [*rows, ("ca_file", ca_file)]
