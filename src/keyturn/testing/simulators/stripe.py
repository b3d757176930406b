"""
Stripe, as far as its API keys and webhook endpoints go.

What the dashboard does is done by `make_key` and `delete_key`. The calls under
`/v2/iam` answer only to a preview version, as Stripe's own do.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keyturn.core.entropy import Entropy
from keyturn.testing.simulators._server import Credential, Reply, Request, Simulator

__all__ = ["Endpoint", "Key", "StripeSimulator"]

# 2026 and after: what is documented of it, fixed so that runs are alike.
_CREATED = 1_767_225_600
_CREATED_TEXT = "2026-01-01T00:00:00.000Z"
_MAX_ENDPOINTS = 16
_NEEDED = {
    "balance": "rak_balance_read",
    "account": "rak_accounts_kyc_basic_read",
    "webhook_endpoints": "rak_webhook_write",
    "api_keys": "rak_secret_write",
}
_EVENT = re.compile(r"enabled_events\[\d*\]")
_METADATA = re.compile(r"metadata\[([^\]]+)\]")


@dataclass(slots=True)
class Key:
    """An API key; *permissions* is None for one that may do everything."""

    id: str
    name: str
    account: str
    credential: Credential
    permissions: list[str] | None
    ip_allowlist: list[str] = field(default_factory=list)

    @property
    def value(self) -> str:
        """The key itself."""
        return self.credential.value

    @property
    def live(self) -> bool:
        """Whether it is accepted; a test may end it here."""
        return self.credential.live

    @live.setter
    def live(self, live: bool) -> None:
        self.credential.live = live

    @property
    def is_live_mode(self) -> bool:
        """Whether it is for real payments."""
        return "_live_" in self.value

    def shown(self, letters: int = 4) -> dict[str, object]:
        """Return it as the API does, with so many *letters* of its end."""
        prefix = self.value[: self.value.rindex("_") + 1]
        return {
            "object": "v2.iam.api_key",
            "id": self.id,
            "name": self.name,
            "note": None,
            "type": "secret_key",
            "status": "active" if self.credential.live else "expired",
            "created": _CREATED_TEXT,
            "expires_at": None,
            "last_used": None,
            "livemode": self.is_live_mode,
            "permissions": self.permissions,
            "connect_permissions": None,
            "ip_allowlist": self.ip_allowlist,
            "managed_by": None,
            "publishable_key": None,
            "secret_key": {
                "encrypted_secret": None,
                "secret_token_redacted": f"{prefix}...{self.value[-letters:]}",
                "token": None,
            },
        }


@dataclass(slots=True)
class Endpoint:
    """A webhook endpoint and the secret that its events are signed with."""

    id: str
    account: str
    url: str
    events: list[str]
    secret: str = field(repr=False)
    livemode: bool
    api_version: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    enabled: bool = True
    connect: bool = False

    def shown(self) -> dict[str, object]:
        """Return it as the API does: without its secret."""
        return {
            "id": self.id,
            "object": "webhook_endpoint",
            "api_version": self.api_version,
            "application": "ca_simulated" if self.connect else None,
            "created": _CREATED,
            "description": self.description,
            "enabled_events": self.events,
            "livemode": self.livemode,
            "metadata": self.metadata,
            "status": "enabled" if self.enabled else "disabled",
            "url": self.url,
        }


class StripeSimulator(Simulator):
    """
    Stripe's API over keys of any number of accounts.

    `preview` is whether the preview API is switched on; `addresses_known` whether
    requests come from an address that keys may be used from; `shown_letters` how much
    of a key's end a list shows; `sealed_for` a public key to seal new keys for in place
    of the caller's.
    """

    def __init__(self, *, entropy: Entropy | None = None) -> None:
        super().__init__(entropy=entropy)
        self.keys: dict[str, Key] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.preview = True
        self.addresses_known = True
        self.shown_letters = 4
        self.sealed_for: str | None = None

    def make_account(self) -> str:
        """Return the id of a new account."""
        return "acct_" + self.letters(16)

    def make_key(
        self,
        account: str,
        *,
        prefix: str = "sk_live_",
        permissions: Sequence[str] | None = None,
        name: str = "made in the dashboard",
    ) -> Key:
        """Make a key, as a person does in the dashboard."""
        credential = Credential(prefix + self.letters(99), unseen=self.spread.refuse_new)
        key = Key(
            id="mk_" + self.letters(24),
            name=name,
            account=account,
            credential=credential,
            permissions=None if permissions is None else list(permissions),
        )
        self.keys[key.id] = key
        return key

    def delete_key(self, value: str) -> None:
        """Delete a key, as a person does in the dashboard."""
        for key in self.keys.values():
            if key.value == value:
                key.credential.end(self.spread)

    def live_keys(self) -> list[Key]:
        """Return the keys that are not expired."""
        return [key for key in self.keys.values() if key.credential.live]

    def sign(self, endpoint: Endpoint, payload: bytes, *, at: int) -> str:
        """Return the header `Stripe-Signature` of an event sent to *endpoint*."""
        signed = str(at).encode() + b"." + payload
        digest = hmac.new(endpoint.secret.encode(), signed, hashlib.sha256).hexdigest()
        return f"t={at},v1={digest}"

    def handle(self, request: Request) -> Reply:
        """Answer *request*: who asks, whether they may, then what."""
        token = request.bearer or request.basic_user
        if token is None:
            return _refusal(401, "You did not provide an API key.")
        found = [key for key in self.keys.values() if key.value == token]
        if not found or (not found[0].credential.live and not found[0].credential.lingering):
            return self._stranger(token, known=bool(found))
        key = found[0]
        if not key.credential.use():
            return self._stranger(token, known=False)
        return self._objection(request, key) or self._serve(request, key)

    def error(self, status: int) -> object:
        """Return Stripe's body for a fault of its own, or too many requests."""
        if status == 429:  # noqa: PLR2004 - too many requests
            return _error("Request rate limit exceeded.", code="rate_limit")
        return _error("An unknown error occurred", kind="api_error")

    def _objection(self, request: Request, key: Key) -> Reply | None:
        if not self.addresses_known:
            return _refusal(403, "This API key may not be used from your IP address.")
        parts = request.parts
        what = parts[2:3] if parts[0] == "v2" else parts[1:2]
        needed = _NEEDED.get(what[0]) if what else None
        if needed is None:
            return _refusal(404, f"Unrecognized request URL ({request.method}: {request.path}).")
        if key.permissions is not None and needed not in key.permissions:
            return _refusal(
                403,
                f"The provided key '{_starred(key.value)}' does not have the required permissions"
                f" for this endpoint on account '{key.account}'. Having the '{needed}' permission"
                " would allow this request to continue.",
            )
        return None

    def _stranger(self, token: str, *, known: bool) -> Reply:
        if known:
            return _refusal(
                401, f"Expired API Key provided: {_starred(token)}", code="api_key_expired"
            )
        return _refusal(401, f"Invalid API Key provided: {_starred(token)}")

    def _serve(self, request: Request, key: Key) -> Reply:
        match (request.method, *request.parts):
            case ("GET", "v1", "balance"):
                return Reply(
                    200, {"object": "balance", "livemode": key.is_live_mode, "available": []}
                )
            case ("GET", "v1", "account"):
                return Reply(200, {"id": key.account, "object": "account", "type": "standard"})
            case (method, "v1", "webhook_endpoints", *rest):
                return self._webhook_endpoints(method, request, rest, key)
            case (method, "v2", "iam", "api_keys", *rest):
                return self._api_keys(method, request, rest, key)
            case _:
                return _refusal(404, f"Unrecognized request URL ({request.method}).")

    def _webhook_endpoints(
        self, method: str, request: Request, rest: Sequence[str], key: Key
    ) -> Reply:
        if rest:
            return self._one_endpoint(method, request, rest[0], key)
        if method == "POST":
            return self._make_endpoint(request.form(), key)
        return self._list_endpoints(request, key)

    def _mine(self, key: Key) -> list[Endpoint]:
        return [
            endpoint
            for endpoint in self.endpoints.values()
            if endpoint.account == key.account and endpoint.livemode == key.is_live_mode
        ]

    def _list_endpoints(self, request: Request, key: Key) -> Reply:
        mine = list(reversed(self._mine(key)))
        after = request.query.get("starting_after")
        if after is not None:
            names = [endpoint.id for endpoint in mine]
            mine = mine[names.index(after) + 1 :] if after in names else []
        limit = int(request.query.get("limit", "10"))
        return Reply(
            200,
            {
                "object": "list",
                "url": "/v1/webhook_endpoints",
                "has_more": len(mine) > limit,
                "data": [endpoint.shown() for endpoint in mine[:limit]],
            },
        )

    def _make_endpoint(self, form: Sequence[tuple[str, str]], key: Key) -> Reply:
        given = dict(form)
        events = [text for name, text in form if _EVENT.fullmatch(name)]
        for name, value in (("url", given.get("url")), ("enabled_events", events)):
            if not value:
                return _refusal(400, f"Missing required param: {name}.", code="parameter_missing")
        if len(self._mine(key)) >= _MAX_ENDPOINTS:
            return _refusal(400, "You have reached the maximum of 16 test webhook endpoints.")
        endpoint = Endpoint(
            id="we_" + self.letters(24),
            account=key.account,
            url=given["url"],
            events=events,
            secret="whsec_" + self.letters(32),
            livemode=key.is_live_mode,
            api_version=given.get("api_version"),
            description=given.get("description"),
            metadata=_metadata(form),
            connect=given.get("connect") == "true",
        )
        self.endpoints[endpoint.id] = endpoint
        return Reply(200, endpoint.shown() | {"secret": endpoint.secret})

    def _one_endpoint(self, method: str, request: Request, name: str, key: Key) -> Reply:
        endpoint = self.endpoints.get(name)
        if endpoint is None or endpoint not in self._mine(key):
            return _refusal(404, f"No such webhook endpoint: '{name}'", code="resource_missing")
        if method == "DELETE":
            del self.endpoints[name]
            return Reply(200, {"id": name, "object": "webhook_endpoint", "deleted": True})
        if method == "POST":
            form = request.form()
            given = dict(form)
            if "disabled" in given:
                endpoint.enabled = given["disabled"] != "true"
            endpoint.metadata |= _metadata(form)
        return Reply(200, endpoint.shown())

    def _api_keys(self, method: str, request: Request, rest: Sequence[str], key: Key) -> Reply:
        version = request.headers.get("stripe-version", "")
        if not self.preview or not version.endswith(".preview"):
            return _refusal(404, f"Unrecognized request URL ({method}: {request.path}).")
        mine = {
            other.id: other
            for other in self.keys.values()
            if other.account == key.account and other.is_live_mode == key.is_live_mode
        }
        if not rest:
            return self._list_keys(request, mine) if method == "GET" else self._add(request, key)
        found = mine.get(rest[0])
        if found is None:
            return _refusal(404, "The API key was not found.", code="not_found")
        match (method, *rest[1:]):
            case ("GET",):
                return Reply(200, found.shown())
            case ("POST", "expire"):
                found.credential.end(self.spread)
                return Reply(200, found.shown())
            case _:
                return _refusal(404, f"Unrecognized request URL ({method}: {request.path}).")

    def _list_keys(self, request: Request, mine: Mapping[str, Key]) -> Reply:
        wanted = request.query.get("include_expired") == "true"
        rows = [
            key.shown(self.shown_letters) for key in mine.values() if wanted or key.credential.live
        ]
        start, size = int(request.query.get("page", "0")), int(request.query.get("limit", "20"))
        more = len(rows) > start + size
        return Reply(
            200,
            {
                "data": rows[start : start + size],
                "next_page_url": f"/v2/iam/api_keys?page={start + size}&limit={size}"
                if more
                else None,
                "previous_page_url": None,
            },
        )

    def _add(self, request: Request, key: Key) -> Reply:
        given = request.json()
        public = given.get("public_key")
        if not isinstance(public, dict) or not isinstance(public.get("pem_key"), dict):
            return _refusal(400, "A public key is required when creating secret keys.")
        permissions = given.get("permissions")
        kind = "sk" if permissions is None else "rk"
        made = self.make_key(
            key.account,
            prefix=f"{kind}_{'live' if key.is_live_mode else 'test'}_",
            permissions=[str(name) for name in permissions]
            if isinstance(permissions, list)
            else None,
            name=str(given.get("name", "")),
        )
        shown = made.shown()
        secret = {"secret_token_redacted": _starred(made.value), "token": None}
        if made.is_live_mode:
            pem = self.sealed_for or str(public["pem_key"].get("data"))
            encrypted = _encrypted(made.value, pem)
            shown["secret_key"] = secret | {
                "encrypted_secret": {
                    "ciphertext": encrypted,
                    "format": "jwe_compact",
                    "recipient_key_id": public.get("id"),
                }
            }
        else:
            shown["secret_key"] = secret | {"encrypted_secret": None, "token": made.value}
        return Reply(200, shown)


def _encrypted(value: str, pem: str) -> str:
    from joserfc import jwe
    from joserfc.jwk import RSAKey

    header = {"alg": "RSA-OAEP-256", "enc": "A256GCM"}
    algorithms = list(header.values())
    return jwe.encrypt_compact(header, value, RSAKey.import_key(pem), algorithms=algorithms)


def _metadata(form: Sequence[tuple[str, str]]) -> dict[str, str]:
    found = ((_METADATA.fullmatch(name), text) for name, text in form)
    return {match[1]: text for match, text in found if match is not None}


def _starred(token: str) -> str:
    prefix = token[: token.rfind("_") + 1]
    return prefix + "*" * max(0, len(token) - len(prefix) - 4) + token[-4:]


def _error(
    message: str, *, code: str | None = None, kind: str = "invalid_request_error"
) -> dict[str, object]:
    found: dict[str, object] = {"message": message, "type": kind}
    if code is not None:
        found["code"] = code
        found["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
    return {"error": found}


def _refusal(status: int, message: str, *, code: str | None = None) -> Reply:
    return Reply(status, _error(message, code=code))
