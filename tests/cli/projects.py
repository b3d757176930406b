"""Projects for tests of the command: made once, copied for each test; and how to run the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from keyturn.app.config import Settings
from keyturn.app.delivery import refresh_bundle
from keyturn.app.secrets import set_field
from keyturn.app.session import open_session
from keyturn.app.start import start_project
from keyturn.core.ids import EnvironmentName
from keyturn.core.value import SecretValue

KEYTURN = Path(sys.executable).with_name("keyturn")
DEVELOPMENT = EnvironmentName("development")
PRODUCTION = EnvironmentName("production")

MANIFEST = """\
[project]
name = "clipper"
owner = "team-core"

[environments.development]
store = "local"

[environments.production]
store = "local"
protected = true

[stores.local]
kind = "embedded"

[config]
PORT = "8080"
GREETING = "grüß dich"

[consumers.backend]
secrets = ["session", "api", "db"]
[consumers.backend.render]
path = "run/backend.env"
format = "dotenv"

[consumers.worker]
secrets = ["session"]
config = false

[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"

[secrets.api]
kind = "guided"
variable = "API_KEY"

[secrets.db]
kind = "postgres-login"
fields = { username = "DB_USER", password = "DB_PASSWORD" }

[secrets.token]
kind = "generated"
variable = "WEBHOOK_TOKEN"
required = false
"""

# What the copied project holds in `development`; made up for these tests.
VALUES = {
    "session": b"test-session-3q2-4mGdLr8vNfYw0sKxB",
    "api": b"test-api-7hJk2Lp9QwErTyUiOpAsDf",
    "db.username": b"clipper_a",
    "db.password": b"test-password-Zx8Cv6Bn4Mq2Wd",
}


@dataclass(frozen=True)
class Result:
    """What a finished command left: its exit code, and both streams as bytes."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self):
        """Standard error as text."""
        return self.err.decode("utf-8", "replace")

    def json(self):
        """Standard output as the JSON document that it is."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Project:
    """
    A project's folder and the home of its keys.

    Args:
        environment: Of every command that is run, beside this process's own.
    """

    folder: Path
    key_home: Path
    environment: dict = field(default_factory=dict)

    def __call__(self, *words, stdin=b"", environ=None, **options):
        """Run `keyturn` with *words* and return its `Result`."""
        done = subprocess.run(
            [KEYTURN, *words],
            # In a session of its own there is no terminal that it could ask on.
            **{"input": stdin, "cwd": self.folder, "start_new_session": True, **options},
            env={**self.environ, **(environ or {})},
            capture_output=True,
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    @property
    def environ(self):
        """The environment that its commands are started in."""
        return {**clean_environment(), "KEYTURN_HOME": str(self.key_home), **self.environment}

    @property
    def state(self):
        """The folder of its store."""
        return self.folder / ".keyturn"

    @property
    def bundle(self):
        """The sealed bundle of `development`."""
        return self.state / "bundles" / "development.age"

    @property
    def manifest(self):
        """Its `keyturn.toml`."""
        return self.folder / "keyturn.toml"

    @property
    def keys(self):
        """The key folder of its store."""
        return self.key_home / (self.state / "locator").read_text().split()[1]

    @property
    def settings(self):
        """What `Settings.read` returns in its commands."""
        return settings(self.folder, self.key_home)

    def session(self, *, reason=None, clock=None, accept_rollback=False):
        """Open it in this process."""
        return open_session(
            self.settings,
            project_dir=self.folder,
            reason=reason,
            ask_passphrase=no_passphrase,
            accept_rollback=accept_rollback,
            clock=clock,
        )

    def put(self, name, value, *, environment=DEVELOPMENT):
        """Store *value* as `keyturn set` does, in this process."""
        session = self.session(reason="test")
        try:
            return set_field(session, environment, name, SecretValue(value)).number
        finally:
            session.close()

    def everything(self, store, *, environment=DEVELOPMENT):
        """Return what *store* has: the state of each secret, and its versions with their values."""
        session = self.session()
        try:
            held = session.store.named(store)
            return dict(held.histories(environment, held.states(environment)))
        finally:
            session.close()

    def refresh(self, *, environment=DEVELOPMENT, clock=None):
        """Make the sealed bundle fresh, so that the next `run` and `get` go the short way."""
        session = self.session(clock=clock)
        try:
            refresh_bundle(session, environment)
        finally:
            session.close()

    def stale(self):
        """Remove the sealed bundle, so that the next `run` and `get` go the long way."""
        self.bundle.unlink(missing_ok=True)

    def actions(self, **matching):
        """Return the audit records, oldest first, chain and read log apart."""
        found = self("audit", "log", "--json", "--limit", "100000").json()
        found.reverse()
        return [
            record
            for record in found
            if all(record.get(name) == value for name, value in matching.items())
        ]


def settings(folder, key_home):
    """Return settings that name *key_home* and nothing unusual."""
    return Settings(
        key_home=key_home, environment="development", reason=None, working_folder=folder
    )


def no_passphrase():
    """Fail the test: nobody is there to ask."""
    raise AssertionError("a passphrase was asked for")


def clean_environment():
    """Return this process's environment without what changes how a program of ours starts."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "KEYTURN_", "COV_")) or name == "KEYTURN_HOME"
    }


@cache
def _template():
    # Kept until the process ends: every test copies it.
    place = TemporaryDirectory(prefix="keyturn-test-")
    root = Path(place.name)
    made = Project(root / "project", root / "keys")
    made.folder.mkdir()
    made.manifest.write_text(MANIFEST, encoding="utf-8")
    start(made)
    for name, value in VALUES.items():
        made.put(name, value)
    return place, made


def start(project, *, example=None):
    """Make the store of *project*, in this process."""
    return start_project(
        project.settings, folder=project.folder, example=example, name=None, ask_passphrase=None
    )


def copied(place):
    """Return a project of `MANIFEST` with `VALUES`, in the folder *place*; its bundle is stale."""
    _, template = _template()
    made = Project(place / "project", place / "keys")
    shutil.copytree(template.folder, made.folder)
    shutil.copytree(template.key_home, made.key_home)
    return made


def empty(place, manifest=MANIFEST):
    """Return a project in *place* that has a manifest and no store."""
    made = Project(place / "project", place / "keys")
    made.folder.mkdir(parents=True)
    made.manifest.write_text(manifest, encoding="utf-8")
    return made


def fingerprint(*folders):
    """Return the content, mode and kind of all that lies in *folders*, to compare later."""
    found = {}
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (status.st_mode, content)
    return found
