"""
Twitch's authorization service, as far as app access tokens go.

An application has one secret. `new_secret` does what the console's button does: the
present one ends at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyturn.testing.simulators._server import Reply, Request, Simulator

__all__ = ["Application", "TwitchSimulator"]

_LIFETIME_SECONDS = 5_184_000


@dataclass(slots=True)
class Application:
    """An application of the console, with its only secret."""

    client_id: str
    client_secret: str = field(repr=False)
    tokens: set[str] = field(default_factory=set, repr=False)


class TwitchSimulator(Simulator):
    """`id.twitch.tv`: token, validate, revoke."""

    def __init__(self) -> None:
        super().__init__()
        self.applications: dict[str, Application] = {}

    def make_application(self) -> Application:
        """Register an application, as a person does in the console."""
        made = Application(self._drawn(), self._drawn())
        self.applications[made.client_id] = made
        return made

    def new_secret(self, client_id: str) -> str:
        """Press `New Secret` in the console: the old secret ends at once."""
        application = self.applications[client_id]
        application.client_secret = self._drawn()
        return application.client_secret

    def handle(self, request: Request) -> Reply:
        """Answer *request*."""
        match (request.method, *request.parts):
            case ("POST", "oauth2", "token"):
                return self._token(dict(request.form()))
            case ("GET", "oauth2", "validate"):
                return self._validate(request.authorization("OAuth") or request.bearer)
            case ("POST", "oauth2", "revoke"):
                return self._revoke(dict(request.form()))
            case _:
                return Reply(404, {"status": 404, "message": "not found"})

    def error(self, status: int) -> object:
        """Return Twitch's body for a fault of its own, or too many requests."""
        message = "too many requests" if status == 429 else "internal error"  # noqa: PLR2004
        return {"status": status, "message": message}

    def _token(self, given: dict[str, str]) -> Reply:
        if given.get("grant_type") != "client_credentials":
            return Reply(400, {"status": 400, "message": "Invalid grant_type"})
        application = self.applications.get(given.get("client_id", ""))
        if application is None:
            return Reply(400, {"status": 400, "message": "invalid client"})
        if given.get("client_secret") != application.client_secret:
            return Reply(403, {"status": 403, "message": "invalid client secret"})
        token = self._drawn()
        application.tokens.add(token)
        return Reply(
            200,
            {"access_token": token, "expires_in": _LIFETIME_SECONDS, "token_type": "bearer"},
        )

    def _validate(self, token: str | None) -> Reply:
        for application in self.applications.values():
            if token in application.tokens:
                return Reply(
                    200,
                    {
                        "client_id": application.client_id,
                        "scopes": [],
                        "expires_in": _LIFETIME_SECONDS,
                    },
                )
        return Reply(401, {"status": 401, "message": "invalid access token"})

    def _revoke(self, given: dict[str, str]) -> Reply:
        application = self.applications.get(given.get("client_id", ""))
        if application is None:
            return Reply(404, {"status": 404, "message": "client does not exist"})
        if given.get("token", "") not in application.tokens:
            return Reply(400, {"status": 400, "message": "Invalid token"})
        application.tokens.discard(given["token"])
        return Reply(200)

    def _drawn(self) -> str:
        return self.letters(30).lower()
