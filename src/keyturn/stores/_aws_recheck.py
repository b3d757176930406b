"""How the fast path asks AWS whether secrets are still at the versions that were read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef, Version, VersionedValue
from keyturn.stores._recheck import server_rows

__all__ = ["recheck_rows"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def recheck_rows(
    environment: EnvironmentName,
    declared: Mapping[SecretName, Collection[FieldName]],
    given: Mapping[SecretName, VersionedValue],
    *,
    name_of: Callable[[SecretRef], str],
    endpoint: tuple[str, str, str | None],
    profile: str | None,
) -> Sequence[Sequence[str]]:
    """
    Return the lines for every secret; none where it cannot be asked.

    Args:
        endpoint: Address, region and file of certificates, as the SDK has them.
    """
    address, region, ca_file = endpoint
    has_path = urlsplit(address).path.strip("/") != ""
    if has_path or any(held.version.drifted for held in given.values()):
        return ()
    rows = [("kind", "aws"), *server_rows(address, ca_file), ("region", region)]
    if profile is not None:
        rows.append(("profile", profile))
    for name in sorted(declared):
        held = given.get(name)
        said = ("-",) if held is None else _said(held.version)
        rows.append(("secret", name_of(SecretRef(environment, name)), *said))
    return rows


def _said(version: Version) -> tuple[str, ...]:
    """Return what the label of *version* says of it."""
    microseconds = (version.created_at - _EPOCH) // timedelta(microseconds=1)
    fields = "+".join(version.fields)
    return (str(version.number), version.origin.value[0], str(microseconds), fields)
