"""A real Redis server with an application's ACL user and an administrator without more rights."""

from __future__ import annotations

import contextlib
import hashlib
import secrets

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keyturn.testing.redis import RedisServer
from tests.worlds.base import Setup

USER = "clipper"
ADMIN = "keyturn"
# What docs/guides/kinds/redis-login.md says an administrator needs.
ADMIN_RIGHTS = (
    "+ping +acl|getuser +acl|setuser +acl|save +acl|dryrun +config|get +config|rewrite"
    " +info +client|id +client|list +client|kill"
)


@contextlib.contextmanager
def kept_session(server, values):
    """Stay connected to *server*; yields whether it still takes commands of that session."""
    client = redis.Redis(
        host=server.host,
        port=server.port,
        username=values.get("username"),
        password=values["password"],
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
    )
    client.ping()

    def lives():
        # Where it was ended, the client logs in anew.
        try:
            return client.ping()
        except redis.ConnectionError:
            return False

    with contextlib.closing(client):
        yield lives


class RedisLoginWorld:
    """
    Args:
        own: The application's login changes itself; there is no administrator.
    """

    def __init__(self, *, keeps="config", own=False, **options):
        self.server = RedisServer(keeps=keeps, **options).start()
        try:
            self._open(own)
        except BaseException:
            self.close()
            raise

    def _open(self, own):
        password, admin = secrets.token_hex(20), secrets.token_hex(20)
        with self.server.connect() as client:
            rights = "+@all" if own else "+@all -@admin"
            self.execute("ACL", "SETUSER", USER, "on", f">{password}", "~*", *rights.split())
            self.execute("ACL", "SETUSER", ADMIN, "on", f">{admin}", *ADMIN_RIGHTS.split())
            self.execute("ACL", "SETUSER", "bystander", "on", f">{admin}", "~*", "+@all")
            self.save(client)
        self.setup = Setup(
            kind="redis-login",
            fields=("password",),
            target={
                "host": self.server.host,
                "port": self.server.port,
                "commands": ["GET x", "SET x 'a b'"],
            },
            first={"username": USER, "password": password},
            admin=None if own else {"username": ADMIN, "password": admin},
        )
        self.own = own

    def save(self, client):
        if client.config_get("aclfile").get("aclfile"):
            client.acl_save()
        elif client.info("server")["config_file"]:
            client.config_rewrite()

    def execute(self, *command):
        with self.server.connect() as client:
            return client.execute_command(*command)

    def use(self, values):
        client = redis.Redis(
            host=self.server.host,
            port=self.server.port,
            username=values.get("username"),
            password=values["password"],
            retry=Retry(NoBackoff(), 3),  # as often as by default, without the waits
        )
        try:
            return client.set("clip", "1") is True
        except redis.AuthenticationError:
            return False
        finally:
            client.close()

    def credentials(self):
        """Return the hashes of the passwords that the application's user takes."""
        with self.server.connect() as client:
            return {item.removeprefix("#") for item in client.acl_getuser(USER)["passwords"]}

    def session(self, values):
        return kept_session(self.server, values)

    def restart(self):
        self.server.restart()

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.server.stop()


def name_of(values):
    """Return what `credentials` calls *values*."""
    return hashlib.sha256(values["password"].encode()).hexdigest()


def open_world():
    return RedisLoginWorld()
