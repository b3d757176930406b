"""The example's own service, started for the tests, and used by a client of its own."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.parse
from base64 import b64encode
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "acme-kind"
USER = "robin"


class AcmeService:
    """One service with one user, who has one password made by hand."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="keyturn-acme-")
        self.admin = {"password": secrets.token_hex(16)}
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(EXAMPLE / "src" / "acme_kind" / "service.py")),
                *("--port", "0", "--users", str(Path(self.folder.name) / "users.json")),
            ],
            env={"PATH": os.defpath, "ACME_ADMIN_PASSWORD": self.admin["password"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        made = self.make("by hand")
        self.first = {"username": USER, "password": made["password"]}

    def send(self, method, path, user, password, body=None):
        """Return the status and the body that the service answers."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.url).netloc, timeout=10)
        login = b64encode(f"{user}:{password}".encode()).decode()
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Basic {login}"},
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def administer(self, method, rest="", body=None):
        path = f"/admin/users/{USER}/passwords{rest}"
        return self.send(method, path, "admin", self.admin["password"], body)[1]

    def make(self, label):
        return self.administer("POST", body={"label": label})

    def use(self, values):
        return self.send("GET", "/hello", values["username"], values["password"])[0] == 200

    def passwords(self):
        return {entry["id"] for entry in self.administer("GET")}

    def labels(self):
        return sorted(entry["label"] for entry in self.administer("GET"))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
        self.folder.cleanup()


class AcmeWorld:
    """A world whose system is this service; each of the two adds how Keyturn reaches it."""

    def __init__(self):
        self.service = AcmeService()

    def use(self, values):
        return self.service.use(values)

    def credentials(self):
        return self.service.passwords()

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.service.stop()
