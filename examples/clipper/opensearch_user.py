"""
Changes the backend's user in OpenSearch. Keyturn runs it for each step of a rotation.

A new user is made beside the one in use, and that one is deleted when every consumer has
the new one. Each run is given one line of JSON (the step, the users, the administrator,
and the rotation's token, which names the new user), and answers by its exit status.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import urllib.error
import urllib.request
from typing import Any

from delivery import delivered

ROLES = ["clipper"]
SECONDS = 10
# What the exit statuses mean to Keyturn.
DONE, REFUSED, NOT_NOW, NEEDS_A_PERSON = 0, 10, 75, 77
OK, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 401, 403, 404

Login = dict[str, str]


class Ended(Exception):
    """It ends here, with this exit status and these words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def ask(method: str, path: str, login: Login, body: object = None) -> int:
    """Ask OpenSearch's security plugin as *login*, and return the status of its answer."""
    user = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
    request = urllib.request.Request(
        f"{delivered()['OPENSEARCH_URL'].rstrip('/')}/_plugins/_security/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {user}", "Content-Type": "application/json"},
        method=method,
    )
    # Straight there: a proxy of whoever runs this has no business with these.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError as error:
        raise Ended(NOT_NOW, f"OpenSearch did not answer ({type(error).__name__})") from None


def create(order: dict[str, Any]) -> None:
    """Make the user of this rotation; a second try sets another password for the same one."""
    made = {"username": name_of(order["token"]), "password": secrets.token_urlsafe(30)}
    body = {"password": made["password"], "opendistro_security_roles": ROLES}
    administer("PUT", made["username"], order, body)
    print(json.dumps(made))


def status(order: dict[str, Any]) -> None:
    """Tell whether `pending` is let in."""
    found = ask("GET", "authinfo", order["pending"])
    if found == UNAUTHORIZED:
        raise Ended(REFUSED, "OpenSearch refuses the login")
    if found != OK:
        raise Ended(NOT_NOW, f"OpenSearch answered {found}")


def withdraw(order: dict[str, Any]) -> None:
    """End `pending`; where nothing was stored, what `create` may have left."""
    pending = order["pending"]
    delete(pending["username"] if pending else name_of(order["token"]), order)


def retire(order: dict[str, Any]) -> None:
    """End `old`."""
    delete(order["old"]["username"], order)


def delete(name: str, order: dict[str, Any]) -> None:
    if order["current"] and order["current"]["username"] == name:
        raise Ended(REFUSED, f"`{name}` is in use")
    administer("DELETE", name, order)


def administer(method: str, name: str, order: dict[str, Any], body: object = None) -> None:
    found = ask(method, f"api/internalusers/{name}", order["admin"], body)
    if found in (UNAUTHORIZED, FORBIDDEN):
        raise Ended(NEEDS_A_PERSON, "the administrator's login may not change users")
    # One that is gone already need not be deleted.
    if found >= FORBIDDEN and not (method == "DELETE" and found == NOT_FOUND):
        raise Ended(NOT_NOW, f"OpenSearch answered {found}")


def name_of(token: str) -> str:
    return f"clipper_{token[:12]}"


STEPS = {"create": create, "status": status, "withdraw": withdraw, "retire": retire}


def main() -> int:
    order = json.loads(sys.stdin.readline())
    try:
        STEPS[order["step"]](order)
    except FileNotFoundError:
        print("run `keyturn render` first: the address is read from there", file=sys.stderr)
        return NEEDS_A_PERSON
    except Ended as ended:
        print(ended, file=sys.stderr)
        return ended.status
    return DONE


if __name__ == "__main__":
    sys.exit(main())
