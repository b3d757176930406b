"""
SendGrid's API as far as keys go: made, listed, used, deleted.

The first key comes from the console, which `make_by_hand` stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyturn.core.entropy import Entropy
from keyturn.testing.simulators._server import Credential, Reply, Request, Simulator

__all__ = ["MAY_MANAGE", "SendGridKey", "SendGridSimulator"]

MAY_MANAGE = (
    "api_keys.create",
    "api_keys.delete",
    "api_keys.read",
    "api_keys.update",
)
# Told by `GET /v3/scopes` of every key, and refused for a new one.
_OF_THE_ACCOUNT = ("2fa_required", "sender_verification_eligible")
_KNOWN = frozenset({*MAY_MANAGE, "mail.send", "stats.read", "templates.read", "alerts.create"})


@dataclass(slots=True)
class SendGridKey(Credential):
    """A key and what it may do."""

    id: str = ""
    name: str = ""
    scopes: tuple[str, ...] = ()


class SendGridSimulator(Simulator):
    """One account, with room for *most_keys*."""

    def __init__(self, *, entropy: Entropy | None = None) -> None:
        super().__init__(entropy=entropy)
        self.keys: dict[str, SendGridKey] = {}
        self.most_keys = 100
        self.sent = 0

    def make_by_hand(self, *scopes: str, name: str = "by hand") -> str:
        """Make a key, as the console does, and return its value."""
        return self._make(name, scopes).value

    def live(self) -> dict[str, str]:
        """Return the names of the keys that are not deleted, by id."""
        return {key.id: key.name for key in self.keys.values() if key.live}

    def error(self, status: int) -> object:
        """Return SendGrid's body for *status*."""
        return _errors("too many requests" if status == 429 else "internal server error")  # noqa: PLR2004

    def handle(self, request: Request) -> Reply:
        """Answer *request*."""
        key = next((key for key in self.keys.values() if key.value == request.bearer), None)
        if key is None or not key.use():
            return Reply(401, _errors("authorization required"))
        match (request.method, *request.parts):
            case ("GET", "v3", "scopes"):
                return Reply(200, {"scopes": [*key.scopes, *_OF_THE_ACCOUNT]})
            case ("POST", "v3", "mail", "send"):
                return _if_allowed(key, "mail.send", self._send)
            case (_, "v3", "api_keys", *rest):
                return self._manage(request, key, rest)
            case _:
                return Reply(404, _errors("not found"))

    def _manage(self, request: Request, key: SendGridKey, rest: list[str]) -> Reply:
        match (request.method, *rest):
            case ("GET",):
                return _if_allowed(key, "api_keys.read", self._list)
            case ("POST",):
                return _if_allowed(key, "api_keys.create", lambda: self._create(request, key))
            case ("GET", key_id):
                return _if_allowed(key, "api_keys.read", lambda: self._show(key_id))
            case ("DELETE", key_id):
                return _if_allowed(key, "api_keys.delete", lambda: self._delete(key_id))
            case _:
                return Reply(405, _errors("method not allowed"))

    def _send(self) -> Reply:
        self.sent += 1
        return Reply(202)

    def _list(self) -> Reply:
        rows = [{"api_key_id": key_id, "name": name} for key_id, name in self.live().items()]
        return Reply(200, {"result": rows})

    def _create(self, request: Request, maker: SendGridKey) -> Reply:
        body = request.json()
        name, scopes = body.get("name"), body.get("scopes", [])
        if not isinstance(name, str) or not name:
            return Reply(400, _errors("missing required argument", "name"))
        if not isinstance(scopes, list) or not _KNOWN.issuperset(scopes):
            return Reply(400, _errors("invalid scope", "scopes"))
        if len(self.live()) >= self.most_keys or not set(maker.scopes).issuperset(scopes):
            return Reply(403, _errors("access forbidden"))
        key = self._make(name, tuple(scopes))
        answer = {
            "api_key": key.value,
            "api_key_id": key.id,
            "name": name,
            "scopes": list(key.scopes),
        }
        return Reply(201, answer)

    def _show(self, key_id: str) -> Reply:
        key = self.keys.get(key_id)
        if key is None or not key.live:
            return Reply(404, _errors("unable to find API Key"))
        return Reply(200, {"api_key_id": key.id, "name": key.name, "scopes": list(key.scopes)})

    def _delete(self, key_id: str) -> Reply:
        key = self.keys.get(key_id)
        if key is None or not key.live:
            return Reply(404, _errors("unable to find API Key"))
        key.end(self.spread)
        return Reply(204)

    def _make(self, name: str, scopes: tuple[str, ...]) -> SendGridKey:
        key_id = self.letters(22)
        key = SendGridKey(
            value=f"SG.{key_id}.{self.letters(43)}",
            unseen=self.spread.refuse_new,
            id=key_id,
            name=name,
            scopes=scopes,
        )
        self.keys[key_id] = key
        return key


def _if_allowed(key: SendGridKey, scope: str, do: Callable[[], Reply]) -> Reply:
    return do() if scope in key.scopes else Reply(403, _errors("access forbidden"))


def _errors(message: str, about: str | None = None) -> dict[str, object]:
    return {"errors": [{"field": about, "message": message}]}
