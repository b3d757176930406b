"""A real Redis server with one password for everybody (`requirepass`)."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keyturn.testing.redis import RedisServer
from tests.worlds.base import Setup
from tests.worlds.redis_login import kept_session


class RedisRequirepassWorld:
    def __init__(self, *, keeps="config", **options):
        self.server = RedisServer(keeps=keeps, **options).start()
        self._known = [self.server.password.reveal_text()]
        self.setup = Setup(
            kind="redis-login",
            fields=("password",),
            target={"host": self.server.host, "port": self.server.port},
            first={"password": self._known[0]},
            strategy="in-place",
            overlaps=False,
        )

    def use(self, values):
        client = redis.Redis(
            host=self.server.host,
            port=self.server.port,
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
        """Return the one password that the server's file says."""
        lines = (self.server.folder / "redis.conf").read_text().splitlines()
        return {line.split()[1].strip('"') for line in lines if line.startswith("requirepass ")}

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


def open_world():
    return RedisRequirepassWorld()
