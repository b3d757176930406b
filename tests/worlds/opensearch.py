"""What the example's program asks of OpenSearch: its users, their passwords, and who one is."""

from __future__ import annotations

import base64
import secrets
import urllib.error
import urllib.request

from keyturn.testing.simulators import Reply, Request, Simulator


class OpenSearchSimulator(Simulator):
    """The security plugin's part of the API; *first* is the login that a person made."""

    def __init__(self):
        super().__init__()
        self.admin = {"username": "admin", "password": secrets.token_hex(20)}
        self.first = {"username": "clipper", "password": secrets.token_hex(20)}
        self.users = {login["username"]: login["password"] for login in (self.admin, self.first)}

    def handle(self, request: Request) -> Reply:
        user = self._who(request)
        if user is None:
            return Reply(401, {"error": "Unauthorized"})
        if request.parts[-1] == "authinfo":
            return Reply(200, {"user_name": user})
        if user != self.admin["username"]:
            return Reply(403, {"status": "FORBIDDEN"})
        name = request.parts[-1]
        if request.method == "DELETE":
            return Reply(404 if self.users.pop(name, None) is None else 200, {})
        self.users[name] = str(request.json()["password"])
        return Reply(200, {"status": "CREATED"})

    def error(self, status: int) -> object:
        return {"status": status}

    def _who(self, request: Request) -> str | None:
        try:
            given = base64.b64decode(request.authorization("Basic") or "").decode()
        except ValueError:
            return None
        name, _, password = given.partition(":")
        return name if password and self.users.get(name) == password else None

    def lets_in(self, login: dict[str, str]) -> bool:
        """Log in as a client does."""
        text = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
        request = urllib.request.Request(
            f"{self.base_url}/_plugins/_security/authinfo",
            headers={"Authorization": f"Basic {text}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
