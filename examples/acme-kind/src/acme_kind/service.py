"""
The Acme service: greets its users. A small thing, and a real one, to rotate passwords of.

    ACME_ADMIN_PASSWORD=... python -m acme_kind.service --port 8321 --users users.json

    GET    /hello                          a user: who am I, and by which password
    GET    /admin/users/U/passwords        the administrator: the passwords of U, by id
    POST   /admin/users/U/passwords        make one more; {"label": "..."}
    DELETE /admin/users/U/passwords/ID     end one

Everybody logs in by HTTP Basic. A user has up to four passwords at a time. Only a
slow hash of each is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import secrets
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MOST_PASSWORDS = 4


def hashed(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=1024, r=8, p=1).hex()


class Users:
    """The users and the hashes of their passwords, in one JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()

    def load(self) -> dict[str, list[dict[str, str]]]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def save(self, users: dict[str, list[dict[str, str]]]) -> None:
        beside = self.path.with_suffix(".new")
        beside.touch(0o600)
        beside.write_text(json.dumps(users))
        beside.replace(self.path)

    def add(self, user: str, label: str) -> dict[str, str] | None:
        with self.lock:
            users = self.load()
            held = users.setdefault(user, [])
            if len(held) >= MOST_PASSWORDS:
                return None
            made = {"id": secrets.token_hex(6), "label": label, "salt": secrets.token_hex(16)}
            password = secrets.token_urlsafe(24)
            held.append({**made, "hash": hashed(password, made["salt"])})
            self.save(users)
            return {"id": made["id"], "label": label, "password": password}

    def remove(self, user: str, number: str) -> bool:
        with self.lock:
            users = self.load()
            left = [entry for entry in users.get(user, []) if entry["id"] != number]
            found = len(left) < len(users.get(user, []))
            users[user] = left
            self.save(users)
            return found

    def find(self, user: str, password: str) -> str | None:
        for entry in self.load().get(user, []):
            if hmac.compare_digest(entry["hash"], hashed(password, entry["salt"])):
                return entry["id"]
        return None


class Handler(BaseHTTPRequestHandler):
    users: Users
    admin_password: str

    def do_GET(self) -> None:
        user, password = self.login()
        number = self.users.find(user, password)
        if self.path == "/hello":
            if number is None:
                return self.answer(401, {"error": "unknown user or password"})
            return self.answer(200, {"user": user, "password_id": number})
        target = self.administered()
        if target is None:
            return None
        entries = self.users.load().get(target[0], [])
        return self.answer(200, [{"id": held["id"], "label": held["label"]} for held in entries])

    def do_POST(self) -> None:
        size = min(int(self.headers.get("Content-Length", "0")), 65_536)
        body = json.loads(self.rfile.read(size) or b"{}")
        target = self.administered()
        if target is None:
            return None
        made = self.users.add(target[0], str(body.get("label", "")))
        if made is None:
            return self.answer(409, {"error": f"there are {MOST_PASSWORDS} passwords already"})
        return self.answer(201, made)

    def do_DELETE(self) -> None:
        target = self.administered()
        if target is None:
            return None
        return self.answer(204 if self.users.remove(*target) else 404, None)

    def login(self) -> tuple[str, str]:
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        try:
            user, _, password = b64decode(text, validate=True).decode().partition(":")
        except ValueError:
            return "", ""
        return (user, password) if scheme == "Basic" else ("", "")

    def administered(self) -> tuple[str, str] | None:
        """Return the user and the id in the path; answer and return None where it may not be."""
        user, password = self.login()
        right = hmac.compare_digest(password.encode(), self.admin_password.encode())
        if user != "admin" or not right:
            self.answer(401, {"error": "only the administrator may"})
            return None
        match self.path.strip("/").split("/"):
            case ["admin", "users", name, "passwords"]:
                return name, ""
            case ["admin", "users", name, "passwords", number]:
                return name, number
        self.answer(404, {"error": "no such page"})
        return None

    def answer(self, status: int, body: object) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: whoever wants a log puts a proxy in front."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--port", type=int, default=8321, help="0 for any free one")
    parser.add_argument("--users", type=Path, required=True)
    arguments = parser.parse_args()
    Handler.users = Users(arguments.users)
    Handler.admin_password = os.environ["ACME_ADMIN_PASSWORD"]
    with ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
