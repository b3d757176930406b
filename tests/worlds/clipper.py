"""
The worked example with everything that its secrets open, the backend, and its users.

PostgreSQL, Redis and OpenBao are real; OpenAI, SendGrid, Stripe, Twitch and OpenSearch are
simulators. The manifest is the example's own; only where each of these is has been set.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import redis

from keyturn.core.value import SecretValue
from keyturn.demo import database, project
from keyturn.testing.postgres import PostgresServer
from keyturn.testing.redis import RedisServer
from tests.worlds.openai_key import OpenAIWorld
from tests.worlds.opensearch import OpenSearchSimulator
from tests.worlds.sendgrid_key import SendGridWorld
from tests.worlds.stripe_key import client as stripe_client
from tests.worlds.stripe_webhook_secret import URL as WEBHOOK_URL
from tests.worlds.stripe_webhook_secret import StripeWebhookWorld
from tests.worlds.twitch_app import TwitchWorld
from tests.worlds.vault_approle import VaultAppRoleWorld

EXAMPLE = Path(__file__).parents[2] / "examples" / "clipper"
KEYTURN = Path(sys.executable).with_name("keyturn")
WHERE = ("-e", "production", "--yes", "--reason", "the example")
# Every secret that Keyturn rotates without a person.
AUTOMATIC = {
    "db": "postgres-login",
    "jwt": "jwt-signing-key",
    "mfa-encryption": "encryption-key",
    "redis": "redis-login",
    "session": "session-secret",
    "stripe-webhook": "stripe-webhook-secret",
    "vault": "vault-approle",
    "openai": "openai-key",
    "opensearch": "command",
    "sendgrid": "sendgrid-key",
}
USERS = 200
PATIENCE_SECONDS = 30


@dataclass
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self):
        return json.loads(self.out)


@dataclass
class Visits:
    """Requests of the users, one after the other in each thread; none is tried twice."""

    port: int
    threads: int = 4
    pause: float = 0.04
    requests: int = 0
    refused: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._running = [
            threading.Thread(target=self._visit, args=(number,), daemon=True)
            for number in range(self.threads)
        ]

    def __enter__(self):
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for thread in self._running:
            thread.join(PATIENCE_SECONDS)

    def more(self, count):
        """Wait until *count* more requests were answered."""
        wanted, deadline = self.requests + count, time.monotonic() + PATIENCE_SECONDS
        while self.requests < wanted:
            if time.monotonic() > deadline:
                raise AssertionError("the backend stopped answering")
            time.sleep(0.01)

    def _visit(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        user = number
        while not self._ending.is_set():
            user = (user + self.threads) % USERS
            for page in (f"/seed?user={user}", "/clips", "/fresh", f"/cached?user={user}"):
                self._ask(connection, page)
                self._ending.wait(self.pause)
            given = self._ask(connection, f"/token?user={user}")
            if given is not None:
                self._ask(connection, "/whoami", token=given["token"], cookie=given["cookie"])
        connection.close()

    def _ask(self, connection, page, **given):
        try:
            status, document = ask(connection, page, **given)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            status, document = type(error).__name__, {}
        with self._lock:
            self.requests += 1
            if status != http.client.OK:
                name = page.partition("?")[0]
                self.refused[f"{name}: {status} {document.get('reason', '')}".strip()] += 1
        return document if status == http.client.OK else None


def ask(connection, page, *, token=None, cookie=None):
    """Ask for *page* once, and return the status and what was answered."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request(
        "GET", page, headers=headers | ({} if cookie is None else {"Cookie": cookie})
    )
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


class ClipperWorld:
    """Everything, started in *folder*, a short path that the database's own user may enter."""

    def __init__(self, folder):
        self.folder = folder
        self.project = folder / "clipper"
        self.project.mkdir()
        self._held = contextlib.ExitStack()
        self.backend = None
        try:
            self._start()
            self._write()
        except BaseException:
            self.close()
            raise

    def _start(self):
        hold = self._held.enter_context
        self.postgres = hold(PostgresServer())
        self.redis = hold(RedisServer())
        self.opensearch = hold(OpenSearchSimulator())
        for name, world in (
            ("vault", VaultAppRoleWorld),
            ("openai", OpenAIWorld),
            ("sendgrid", SendGridWorld),
            ("stripe", StripeWebhookWorld),
            ("twitch", TwitchWorld),
        ):
            setattr(self, name, hold(contextlib.closing(world())))
        self.db_admin = database.prepare(self.postgres, EXAMPLE / "schema.sql")
        self.port = free_port()

    def _write(self):
        for path in EXAMPLE.iterdir():
            if path.suffix == ".py":
                (self.project / path.name).write_bytes(path.read_bytes())
        settings = {
            "PORT": str(self.port),
            "DB_HOST": self.postgres.host,
            "DB_PORT": str(self.postgres.port),
            "REDIS_HOST": self.redis.host,
            "REDIS_PORT": str(self.redis.port),
            "VAULT_ADDR": self.vault.server.address,
            "OPENSEARCH_URL": self.opensearch.base_url,
        }
        targets = {
            "openai": {
                "base_url": self.openai.simulator.base_url,
                "project": self.openai.project,
                "service_account": self.openai.account,
            },
            "sendgrid": {"base_url": self.sendgrid.simulator.base_url},
            "stripe": {"base_url": self.stripe.simulator.base_url},
            "stripe-webhook": {"base_url": self.stripe.simulator.base_url, "url": WEBHOOK_URL},
            "twitch": {"base_url": self.twitch.simulator.base_url},
        }
        text = project.finished_manifest(settings)
        for name, target in targets.items():
            text += f"\n[secrets.{name}.environments.production.target]\n"
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in target.items())
        (self.project / "keyturn.toml").write_text(text)

    def environment(self):
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | {"PATH": path, "HOME": str(self.folder)}

    def keyturn(self, *words, given=None):
        """Run the command as a person would, and return what it came to."""
        started = time.monotonic()
        found = subprocess.run(
            [KEYTURN, *words],
            cwd=self.project,
            env=self.environment(),
            input="" if given is None else given,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        return Ended(found.returncode, found.stdout, found.stderr, time.monotonic() - started)

    def must(self, *words, given=None):
        ended = self.keyturn(*words, given=given)
        if ended.code != 0:
            raise AssertionError(f"keyturn {' '.join(words)}: {ended.code}\n{ended.out}{ended.err}")
        return ended

    def fill(self):
        """Give every secret its first value, as a person does who moves in."""
        self.must("init")
        admins = {
            "db-admin.username": database.ADMIN,
            "db-admin.password": self.db_admin.reveal_text(),
            "opensearch-admin.username": self.opensearch.admin["username"],
            "opensearch-admin.password": self.opensearch.admin["password"],
            "openai-admin": self.openai.setup.admin["value"],
            "sendgrid-admin": self.sendgrid.setup.admin["value"],
            "vault-admin": self.vault.setup.admin["token"],
        }
        for name, value in admins.items():
            self.must("set", name, "-", *WHERE, given=value)
        first = {
            "REDIS_PASSWORD": self.redis.password.reveal_text(),
            "OPENSEARCH_USERNAME": self.opensearch.first["username"],
            "OPENSEARCH_PASSWORD": self.opensearch.first["password"],
            "VAULT_ROLE_ID": self.vault.setup.first["role_id"],
            "VAULT_SECRET_ID": self.vault.setup.first["secret_id"],
            "TWITCH_CLIENT_ID": self.twitch.setup.first["client_id"],
            "TWITCH_CLIENT_SECRET": self.twitch.setup.first["client_secret"],
            "STRIPE_SECRET_KEY": self.stripe.key,
            "STRIPE_WEBHOOK_SECRET": self.stripe.setup.first["value"],
            "STRIPE_WEBHOOK_SECRET_ALT": "",
            "OPENAI_API_KEY": self.openai.setup.first["value"],
            "SENDGRID_API_KEY": self.sendgrid.setup.first["value"],
        }
        file = self.project / ".env"
        file.touch(0o600)
        file.write_text("".join(f"{name}={value}\n" for name, value in first.items()))
        self.must("import", ".env", "--shred", *WHERE)
        self.must("generate", *WHERE)
        self.must("render", "-e", "production")

    def run_backend(self):
        """Start the backend by `keyturn run`, and wait until it is healthy."""
        words = ["run", "--consumer", "backend", "-e", "production", "--", sys.executable]
        with (self.folder / "backend.log").open("wb") as log:
            self.backend = subprocess.Popen(
                [KEYTURN, *words, "backend.py"],
                cwd=self.project,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.project / "run" / "backend.pid").exists():
            if self.backend.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "backend.log").read_text())
            time.sleep(0.02)

    def ask(self, page, **given):
        """Ask the backend for *page* once."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            return ask(connection, page, **given)

    def delivered(self):
        """Return the variables that the backend was given last."""
        out = subprocess.run(
            [
                sys.executable,
                "-c",
                "import json, delivery; print(json.dumps(delivery.delivered()))",
            ],
            cwd=self.project,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return json.loads(out)

    def rotate_all(self, *more):
        """Rotate everything at once, without graces."""
        return self.keyturn("rotate", "--all", "--now", *WHERE, *more)

    def rotate_twitch(self):
        """Rotate what a person fetches, who has pressed *New Secret* in the console."""
        given = json.dumps(self.twitch.supply())
        return self.must("rotate", "twitch", "--now", "--from-file", "-", *WHERE, given=given)

    def rotate_stripe(self):
        """Rotate what a person fetches at the dashboard, and deletes there afterwards."""
        simulator, old = self.stripe.simulator, self.stripe.key
        self.stripe.key = simulator.make_key(self.stripe.account).value
        first = self.must(
            "rotate", "stripe", "--now", "--from-file", "-", *WHERE, given=self.stripe.key
        )
        simulator.delete_key(old)
        last = self.must("rotate", "--resume", "stripe", *WHERE)
        return Ended(0, first.out + last.out, first.err + last.err, first.seconds + last.seconds)

    def works(self, values):
        """
        Use what was delivered once, each where it belongs, with an ordinary client.

        Returns:
            By secret, whether it was let in. What only the backend knows is asked elsewhere.
        """
        return {
            "db": database.refusal(
                self.postgres, values["DB_USER"], SecretValue.from_text(values["DB_PASSWORD"])
            )
            is None,
            "redis": self._redis_lets_in(values["REDIS_PASSWORD"]),
            "vault": self.vault.use(
                {"role_id": values["VAULT_ROLE_ID"], "secret_id": values["VAULT_SECRET_ID"]}
            ),
            "openai": self.openai.use({"value": values["OPENAI_API_KEY"]}),
            "sendgrid": self.sendgrid.use({"value": values["SENDGRID_API_KEY"]}),
            "stripe-webhook": self.stripe.use({"value": values["STRIPE_WEBHOOK_SECRET"]}),
            "opensearch": self.opensearch.lets_in(
                {
                    "username": values["OPENSEARCH_USERNAME"],
                    "password": values["OPENSEARCH_PASSWORD"],
                }
            ),
            "twitch": self.twitch.use(
                {
                    "client_id": values["TWITCH_CLIENT_ID"],
                    "client_secret": values["TWITCH_CLIENT_SECRET"],
                }
            ),
            "stripe": self._stripe_lets_in(values["STRIPE_SECRET_KEY"]),
        }

    def _redis_lets_in(self, password):
        with redis.Redis(host=self.redis.host, port=self.redis.port, password=password) as client:
            try:
                return client.ping()
            except redis.AuthenticationError:
                return False

    def _stripe_lets_in(self, key):
        import stripe

        try:
            stripe_client(self.stripe.simulator, key).v1.balance.retrieve()
        except stripe.AuthenticationError:
            return False
        return True

    def rows_by_key(self):
        """Return how many seeds each key encrypts, by its id."""
        with self.postgres.connect(database=database.DATABASE) as connection:
            rows = connection.execute("SELECT key_id, count(*) FROM mfa_seeds GROUP BY 1")
            return dict(rows.fetchall())

    def close(self):
        """End the backend and every server."""
        if self.backend is not None and self.backend.poll() is None:
            self.backend.terminate()
            try:
                self.backend.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.backend.kill()
                self.backend.wait()
        self._held.close()


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
