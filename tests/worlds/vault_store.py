"""A real OpenBao server with a KV engine for each test, and stores of ours in it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from keyturn.core.clock import SystemClock
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token, new_id
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.stores.outside import OutsideStore
from keyturn.stores.vault import Surroundings, VaultLayout, VaultSettings
from keyturn.testing.openbao import OpenBaoServer

ENVIRONMENT = EnvironmentName("production")
DB = SecretRef(ENVIRONMENT, SecretName("db"))


def nobody(prompt):
    """Nobody is there to be asked."""
    raise AssertionError(f"asked: {prompt}")


class VaultStoreWorld:
    """
    Args:
        server: One that runs; it is left running.
    """

    _mounts = itertools.count(1)

    def __init__(self, server=None):
        self.server = server or OpenBaoServer().start()
        self._own = server is None
        self.stores = []
        self.mount = "secret"

    def fresh_mount(self):
        """Use a KV engine that is empty, from now on."""
        self.mount = f"kv{next(self._mounts)}"
        self.ask("POST", f"sys/mounts/{self.mount}", {"type": "kv", "options": {"version": "2"}})
        return self

    def ask(self, method, path, body=None, *, token=None):
        """Do what an administrator would; it has to succeed."""
        answer = self.server.request(method, path, body, token=token)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else {}

    def layout(self, *, token=None, around=None, clock=None, project="clipper", **settings):
        if "addresses" not in settings:
            settings["addresses"] = (self.server.address,)
        settings.setdefault("mount", self.mount)
        secret = token or self.server.token
        return VaultLayout(
            VaultSettings(**settings),
            project=project,
            clock=clock or SystemClock(),
            entropy=SystemEntropy(),
            around=around
            or Surroundings(nobody, {"VAULT_TOKEN": secret.reveal_text()}, Path("/nonexistent")),
        )

    def store(self, **settings):
        """Return a store; it is closed with the world."""
        layout = self.layout(**settings)
        store = OutsideStore(
            layout, clock=settings.get("clock") or SystemClock(), entropy=SystemEntropy()
        )
        self.stores.append(store)
        return store

    def live(self, path="clipper/production"):
        """Return what applications find at *path*; None where there is nothing."""
        answer = self.server.request("GET", f"{self.mount}/data/{path}")
        return answer.json()["data"]["data"] if answer.status_code == 200 else None

    def live_version(self, path="clipper/production"):
        return self.ask("GET", f"{self.mount}/data/{path}")["data"]["metadata"]["version"]

    def write(self, data, path="clipper/production"):
        """Replace the document, as `bao kv put` does."""
        self.ask("POST", f"{self.mount}/data/{path}", {"data": data})

    def bao(self, *arguments):
        """Run the vendor's own program and return what it prints."""
        program = Path(sys.executable).parent / "bao"
        environment = {
            "PATH": os.defpath,
            "HOME": "/nonexistent",
            "VAULT_ADDR": self.server.address,
            "VAULT_TOKEN": self.server.token.reveal_text(),
        }
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, check=True, timeout=30
        )
        return done.stdout

    def token(self, policy, **settings):
        """Return a token that has *policy*, by its text."""
        name = new_id(SystemEntropy())
        self.ask("POST", f"sys/policies/acl/{name}", {"policy": policy})
        made = self.ask("POST", "auth/token/create", {"policies": [name], **settings})
        return SecretValue.from_text(made["auth"]["client_token"])

    def close_stores(self):
        while self.stores:
            self.stores.pop().close()

    def close(self):
        self.close_stores()
        if self._own:
            self.server.stop()


def fields(**values):
    return {FieldName(name): SecretValue(data) for name, data in values.items()}


def put(store, data, *, ref=DB, token=None):
    token = Token(token or new_id(SystemEntropy()))
    return store.put_pending(ref, fields(value=data), origin=Origin.SET, token=token).number


def activate(store, data, *, ref=DB):
    """Make *data* current, and return its version's number."""
    number = put(store, data, ref=ref)
    store.promote(ref, number, expected_current=store.state(ref).current)
    return number


def current(store, ref=DB):
    return store.read(ref, Stage.CURRENT).values[FieldName("value")].reveal()
