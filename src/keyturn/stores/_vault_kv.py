"""Documents of a KV engine of version 2: read, written by check-and-set, listed, ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from keyturn._internal import failpoints
from keyturn._internal.http import Reply, segment
from keyturn.errors import Corrupt, KeyturnError, Rejected
from keyturn.stores._place import mark_is_stale
from keyturn.stores._vault_api import said_of, words
from keyturn.stores._vault_session import Session

__all__ = ["DENIED", "MOUNT", "Document", "Kv"]

DENIED: Final = "store.denied"
MOUNT: Final = "store.mount"

_BAD_REQUEST = 400
_FORBIDDEN = 403
_NOT_FOUND = 404
_STALE = "check-and-set parameter did not match"
_NO_ENGINE = "no handler for route"


@dataclass(frozen=True, slots=True)
class Document:
    """
    One document as it was read.

    Args:
        version: The newest; 0 where there never was one.
        data: None where there is none, or the newest version was deleted or destroyed.
    """

    version: int
    data: Mapping[str, object] | None = field(repr=False)


class Kv:
    """The engine at *mount*."""

    def __init__(self, session: Session, mount: str) -> None:
        self._session = session
        self._mount = mount
        self._checked = False

    def data_path(self, path: str) -> str:
        """Return where the document at *path* is read, below `/v1/`."""
        return self._where("data", path)

    def read(self, path: str, *, version: int | None = None) -> Document:
        """
        Return the document at *path*, or an older *version* of it.

        Raises:
            Rejected: Denied; or there is no such engine.
            Corrupt: What answers is no KV engine of version 2.
        """
        where = self._where("data", path)
        query = "" if version is None else f"?version={version}"
        reply = self._session.send("GET", where + query)
        number, data = reply.at("data", "metadata", "version"), reply.at("data", "data")
        if reply.succeeded:
            if not isinstance(number, int) or not isinstance(data, dict):
                raise self._not_kv2(where)
            return Document(number, data)
        if reply.status != _NOT_FOUND:
            raise self._refusal(reply, where, ["read"])
        if isinstance(number, int):
            return Document(number, None)
        self._require_engine(reply, where)
        return Document(0, None)

    def write(self, path: str, data: Mapping[str, object], *, cas: int) -> None:
        """
        Write *data* to *path*, where version *cas* is the newest.

        Raises:
            Conflict: `store.mark`: another is.
            OutcomeUnknown: No answer came.
            Rejected: Denied, or too large.
        """
        where = self._where("data", path)
        body = {"data": data, "options": {"cas": cas}}
        failpoints.hit("store.vault.write")
        reply = self._session.send("POST", where, body=body, changing=True)
        failpoints.hit("store.vault.written")
        if reply.status == _BAD_REQUEST and _STALE in said_of(reply):
            raise mark_is_stale(f"`{self._mount}/{path}`")
        if not reply.succeeded:
            # An existing document asks for the one, a new document for the other.
            raise self._refusal(reply, where, ["create", "update"])

    def remove(self, path: str) -> None:
        """Remove every version of the document at *path*; none there is fine."""
        where = self._where("metadata", path)
        failpoints.hit("store.vault.remove")
        reply = self._session.send("DELETE", where, changing=True)
        failpoints.hit("store.vault.removed")
        if not reply.succeeded and reply.status != _NOT_FOUND:
            raise self._refusal(reply, where, ["delete"])

    def names(self, path: str) -> list[str]:
        """Return the names below *path* that have something below them."""
        return [key.removesuffix("/") for key in self._keys(path) if key.endswith("/")]

    def leaves(self, path: str) -> list[str]:
        """Return the names of the documents that lie right below *path*."""
        return [key for key in self._keys(path) if not key.endswith("/")]

    def _keys(self, path: str) -> list[str]:
        where = self._where("metadata", path)
        reply = self._session.send("LIST", where)
        if reply.status == _NOT_FOUND:
            self._require_engine(reply, where)
            return []
        keys = reply.at("data", "keys")
        if not reply.succeeded or not isinstance(keys, list):
            raise self._refusal(reply, where + "/", ["list"])
        return list(map(str, keys))

    def older(self, path: str) -> list[int]:
        """Return the versions of the document at *path* that can be read beside the newest."""
        where = self._where("metadata", path)
        reply = self._session.send("GET", where)
        if reply.status == _NOT_FOUND:
            return []
        versions = reply.at("data", "versions")
        if not reply.succeeded or not isinstance(versions, dict):
            raise self._refusal(reply, where, ["read"])
        newest = reply.at("data", "current_version")
        alive = [
            int(number)
            for number, told in versions.items()
            if isinstance(told, dict) and not told.get("destroyed")
        ]
        return sorted(number for number in alive if number != newest)

    def destroy(self, path: str, versions: Sequence[int]) -> None:
        """Make *versions* of the document at *path* unreadable for good."""
        where = self._where("destroy", path)
        failpoints.hit("store.vault.destroy")
        reply = self._session.send("POST", where, body={"versions": list(versions)}, changing=True)
        failpoints.hit("store.vault.destroyed")
        if not reply.succeeded:
            raise self._refusal(reply, where, ["update"])

    def require(self, needs: Collection[tuple[str, str, str]]) -> None:
        """
        Check rights before something is begun that needs them later.

        Args:
            needs: Of each: `data`, `metadata` or `destroy`; the path; the capability.

        Raises:
            Rejected: One is missing.
        """
        wheres = [self._where(kind, path) for kind, path, _ in needs]
        has = self._capabilities(wheres)
        for where, (_, _, capability) in zip(wheres, needs, strict=True):
            if where in has and not has[where] & {capability, "root"}:
                raise self._denied(where, [capability])

    def _where(self, kind: str, path: str) -> str:
        return "/".join(segment(part) for part in [*self._mount.split("/"), kind, *path.split("/")])

    def _refusal(self, reply: Reply, where: str, capabilities: Sequence[str]) -> KeyturnError:
        if reply.status == _FORBIDDEN:
            has = self._capabilities([where]).get(where, frozenset())
            missing = [name for name in capabilities if name not in has]
            return self._denied(where, missing or capabilities)
        if reply.status == _NOT_FOUND and _NO_ENGINE in said_of(reply):
            return self._no_engine()
        return Rejected(f"Vault does not do what is asked at `{where}`: {words(reply)}")

    def _denied(self, where: str, missing: Sequence[str]) -> Rejected:
        listed = " and ".join(f"`{name}`" for name in missing)
        line = ", ".join(f'"{name}"' for name in missing)
        return Rejected(
            f"Vault denies {listed} on `{where}`",
            hint=f'its policy needs: path "{where}" {{ capabilities = [{line}] }}',
            code=DENIED,
        )

    def _capabilities(self, wheres: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return what the token may do; a path is left out where the server does not say."""
        body = {"paths": list(wheres)}
        reply = self._session.send("POST", "sys/capabilities-self", body=body)
        found = {where: reply.at("data", where) for where in wheres}
        return {
            where: frozenset(map(str, names))
            for where, names in found.items()
            if isinstance(names, list)
        }

    def _require_engine(self, reply: Reply, where: str) -> None:
        """Check once that an absent document is absent from an engine that there is."""
        if _NO_ENGINE in said_of(reply):
            raise self._no_engine()
        if self._checked:
            return
        mount = "/".join(segment(part) for part in self._mount.split("/"))
        told = self._session.send("GET", f"sys/internal/ui/mounts/{mount}")
        if told.succeeded:
            version = told.at("data", "options", "version")
            if told.at("data", "type") != "kv" or version != "2":
                raise self._not_kv2(where)
        self._checked = True

    def _no_engine(self) -> Rejected:
        return Rejected(
            f"Vault has no secrets engine at `{self._mount}`",
            hint="check `mount` and `namespace` of the store; `bao secrets list` shows what there"
            " is",
            code=MOUNT,
        )

    def _not_kv2(self, where: str) -> KeyturnError:
        return Corrupt(
            f"what answers at `{where}` is no KV engine of version 2",
            hint=f"`bao kv enable-versioning {self._mount}` makes one of version 1 into one, or"
            " name another `mount`",
            code=MOUNT,
        )
