"""
OpenAI's API as far as keys of projects go: made, listed, used, deleted.

Keys of users come from the console alone, which `make_by_hand` stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy
from keyturn.testing.simulators._server import Credential, Reply, Request, Simulator

__all__ = ["OpenAISimulator", "ProjectKey"]

_READS_MODELS = frozenset({"api.all", "api.all.read", "api.model.read"})
_MODELS = ("gpt-5", "gpt-5-mini", "text-embedding-3-small")


@dataclass(slots=True)
class ProjectKey(Credential):
    """A key; *account* owns it, or a user where it is None."""

    id: str = ""
    name: str = ""
    project: str = ""
    account: str | None = None
    scopes: tuple[str, ...] = ()
    created_at: int = 0
    last_used_at: int | None = None


@dataclass(slots=True)
class _Project:
    id: str
    models: tuple[str, ...]
    accounts: dict[str, str] = field(default_factory=dict)


class OpenAISimulator(Simulator):
    """One organisation; *admin_key* may do all, *weak_admin_key* may only read."""

    def __init__(self, *, entropy: Entropy | None = None, clock: Clock | None = None) -> None:
        super().__init__(entropy=entropy)
        self._clock = clock or SystemClock()
        self.keys: dict[str, ProjectKey] = {}
        self.out_of_quota = False
        self._projects: dict[str, _Project] = {}
        self.admin_key = f"sk-admin-{self.letters(40)}"
        self.weak_admin_key = f"sk-admin-{self.letters(40)}"

    @property
    def base_url(self) -> str:
        """Where it listens, with the version."""
        return f"{super().base_url}/v1"

    def add_project(self, models: tuple[str, ...] = _MODELS) -> str:
        """Make a project and return its id."""
        project = _Project(f"proj_{self.letters(24)}", models)
        self._projects[project.id] = project
        return project.id

    def add_account(self, project: str, name: str = "service") -> str:
        """Make a service account and return its id."""
        account = f"user-{self.letters(24)}"
        self._projects[project].accounts[account] = name
        return account

    def limit_models(self, project: str, models: tuple[str, ...]) -> None:
        """Let the keys of *project* use *models* alone."""
        self._projects[project].models = models

    def make_by_hand(
        self, project: str, *, name: str = "by hand", scopes: tuple[str, ...] = ()
    ) -> str:
        """Make a user's key, as the console does, and return its value."""
        return self._make(project, None, name, scopes).value

    def live(self) -> dict[str, str]:
        """Return the names of the keys that are not deleted, by id."""
        return {key.id: key.name for key in self.keys.values() if key.live}

    def error(self, status: int) -> object:
        """Return OpenAI's body for *status*."""
        if status == 429:  # noqa: PLR2004 - too many requests
            return _error("Rate limit reached for requests.", "requests", "rate_limit_exceeded")
        return _error("The server had an error while processing your request.", "server_error")

    def handle(self, request: Request) -> Reply:
        """Answer *request*."""
        match (request.method, *request.parts[1:]):
            case ("GET", "models"):
                return self._models(request)
            case (_, "organization", "projects", project, *rest):
                return self._refused(request) or self._manage(request, project, rest)
            case _:
                return _unknown(f"Invalid URL ({request.method} {request.path})")

    def _models(self, request: Request) -> Reply:
        if request.bearer is None:
            return _no_key()
        key = next((key for key in self.keys.values() if key.value == request.bearer), None)
        if key is None or not key.use():
            return _bad_key(request.bearer)
        key.last_used_at = self._now()
        if self.out_of_quota:
            body = _error(
                "You exceeded your current quota.", "insufficient_quota", "insufficient_quota"
            )
            return Reply(429, body)
        if key.scopes and not _READS_MODELS & set(key.scopes):
            return _lacks("api.model.read")
        models = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}
            for name in self._projects[key.project].models
        ]
        return Reply(200, {"object": "list", "data": models})

    def _refused(self, request: Request) -> Reply | None:
        if request.bearer is None:
            return _no_key()
        if request.bearer not in {self.admin_key, self.weak_admin_key}:
            known = any(key.live and key.value == request.bearer for key in self.keys.values())
            return _lacks("api.management.read") if known else _bad_key(request.bearer)
        if request.bearer == self.weak_admin_key and request.method != "GET":
            return _lacks("api.management.write")
        return None

    def _manage(self, request: Request, project: str, rest: list[str]) -> Reply:
        if project not in self._projects:
            return _unknown(f"No such project: {project}")
        match (request.method, *rest):
            case ("GET", "api_keys"):
                return self._list(request, project)
            case ("GET", "api_keys", key_id) if self._has(project, key_id):
                return Reply(200, self._shown(self.keys[key_id]))
            case ("DELETE", "api_keys", key_id) if self._has(project, key_id):
                self.keys[key_id].end(self.spread)
                body = {
                    "object": "organization.project.api_key.deleted",
                    "id": key_id,
                    "deleted": True,
                }
                return Reply(200, body)
            case ("POST", "service_accounts", account, "api_keys"):
                return self._create(request, project, account)
            case _:
                return _unknown("Not found")

    def _create(self, request: Request, project: str, account: str) -> Reply:
        if account not in self._projects[project].accounts:
            return _unknown(f"No such service account: {account}")
        body = request.json()
        name, scopes = body.get("name", "Secret key"), body.get("scopes", [])
        if not isinstance(name, str) or not isinstance(scopes, list):
            return Reply(
                400, _error("Invalid type for 'name' or 'scopes'.", "invalid_request_error")
            )
        key = self._make(project, account, name, tuple(str(scope) for scope in scopes))
        answer = {
            "object": "organization.project.service_account.api_key",
            "id": key.id,
            "name": key.name,
            "value": key.value,
            "created_at": key.created_at,
            "expires_at": None,
        }
        return Reply(200, answer)

    def _list(self, request: Request, project: str) -> Reply:
        keys = [key for key in self.keys.values() if key.live and key.project == project]
        ids = [key.id for key in keys]
        after = request.query.get("after")
        start = ids.index(after) + 1 if after in ids else 0
        limit = int(request.query.get("limit", "20"))
        page = keys[start : start + limit]
        body = {
            "object": "list",
            "data": [self._shown(key) for key in page],
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
            "has_more": start + limit < len(keys),
        }
        return Reply(200, body)

    def _shown(self, key: ProjectKey) -> dict[str, object]:
        owner: dict[str, object] = {"id": key.account or "user-console", "name": "owner"}
        owner |= {"role": "member", "created_at": key.created_at}
        if key.account is None:
            owner |= {"email": "owner@clipper.example"}
        kind = "user" if key.account is None else "service_account"
        if key.account is not None:
            owner |= {"object": "organization.project.service_account"}
        else:
            owner |= {"object": "organization.project.user", "added_at": key.created_at}
        return {
            "object": "organization.project.api_key",
            "redacted_value": f"{key.value[:8]}{'*' * 20}{key.value[-4:]}",
            "name": key.name,
            "created_at": key.created_at,
            "last_used_at": key.last_used_at,
            "expires_at": None,
            "id": key.id,
            "owner": {"type": kind, kind: owner},
            "owner_project_access": "active",
        }

    def _make(
        self, project: str, account: str | None, name: str, scopes: tuple[str, ...]
    ) -> ProjectKey:
        key = ProjectKey(
            value=f"sk-{'proj' if account is None else 'svcacct'}-{self.letters(48)}",
            unseen=self.spread.refuse_new,
            id=f"key_{self.letters(16)}",
            name=name,
            project=project,
            account=account,
            scopes=scopes,
            created_at=self._now(),
        )
        self.keys[key.id] = key
        return key

    def _has(self, project: str, key_id: str) -> bool:
        key = self.keys.get(key_id)
        return key is not None and key.live and key.project == project

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _error(message: str, kind: str, code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _no_key() -> Reply:
    return Reply(401, _error("You didn't provide an API key.", "invalid_request_error"))


def _bad_key(value: str) -> Reply:
    # The vendor shows the ends of the key that it refuses.
    shown = f"{value[:8]}{'*' * 20}{value[-4:]}"
    message = (
        f"Incorrect API key provided: {shown}. You can find your API key at"
        " https://platform.openai.com/account/api-keys."
    )
    return Reply(401, _error(message, "invalid_request_error", "invalid_api_key"))


def _lacks(scope: str) -> Reply:
    message = f"You have insufficient permissions for this operation. Missing scopes: {scope}."
    return Reply(403, _error(message, "invalid_request_error", "missing_scope"))


def _unknown(message: str) -> Reply:
    return Reply(404, _error(message, "invalid_request_error"))
