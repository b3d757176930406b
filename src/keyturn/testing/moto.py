"""
moto's AWS on loopback, which checks keys and policies, gone when stopped.

An emulator: what it is known to do otherwise than AWS is tested by other means. Among
them: it goes on accepting an access key that is inactive.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from keyturn.core.value import SecretValue
from keyturn.errors import NotFound
from keyturn.testing._process import HOST, ServerProcess, free_port, listens

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MotoServer"]

_REGION = "eu-central-1"
_KEY_LENGTH = 40


class MotoServer:
    """One server. Users are made by `make_user`, before `check_keys` is called."""

    host = HOST
    region = _REGION

    def __init__(self) -> None:
        self.port = 0
        self._process = ServerProcess("moto")

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """
        Start the server and wait until it listens.

        Raises:
            NotFound: moto is not installed.
            Unavailable: It did not start; the message has the end of its log.
        """
        program = Path(sys.executable).parent / "moto_server"
        if not program.exists():
            raise NotFound("no `moto_server` is installed", hint="pip install 'moto[server]'")
        self.port = free_port()
        command: list[str | Path] = [program, "-H", self.host, "-p", str(self.port)]
        try:
            self._process.launch(command, answers=lambda: listens(self.port))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove every file of it; a second call does nothing."""
        self._process.remove()

    def client(self, service: str, key: tuple[str, SecretValue] | None = None) -> Any:
        """Return a client of *service*, as *key* (id and secret) or as nobody in particular."""
        import boto3

        if key is None:
            key = "AKIAIOSFODNN7EXAMPLE", SecretValue(b"x" * _KEY_LENGTH)
        return boto3.session.Session().client(
            service,
            region_name=self.region,
            endpoint_url=self.address,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1].reveal_text(),
        )

    def make_user(self, name: str, *, actions: Mapping[str, str]) -> tuple[str, SecretValue]:
        """
        Make the IAM user *name* with one access key, and return that.

        Args:
            actions: `Allow` or `Deny` for each.
        """
        iam = self.client("iam")
        iam.create_user(UserName=name)
        self.allow(iam, name, actions)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], SecretValue.from_text(made["SecretAccessKey"])

    def allow(self, iam: Any, name: str, actions: Mapping[str, str]) -> None:
        """Give the user *name* the policy that *actions* say, as *iam*."""
        statements = [
            {"Effect": effect, "Action": action, "Resource": "*"}
            for action, effect in actions.items()
        ]
        document = {"Version": "2012-10-17", "Statement": statements}
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))

    def check_keys(self) -> None:
        """From now on refuse what AWS would refuse: unknown keys, and denied actions."""
        self._moto("reset-auth", b"0")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _moto(self, name: str, content: bytes) -> None:
        import httpx

        answer = httpx.post(f"{self.address}/moto-api/{name}", content=content, trust_env=False)
        answer.raise_for_status()
