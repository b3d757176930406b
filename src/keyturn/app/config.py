"""The process's environment, read in one place."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keyturn import fast
from keyturn.core.model import Principal

__all__ = ["Settings", "local_principal"]


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the environment says.

    Args:
        key_home: The folder outside every repository where keys lie.
        environment: `KEYTURN_ENVIRONMENT`, or `development`.
        reason: `KEYTURN_REASON`: why protected changes are made, for the record.
    """

    key_home: Path
    environment: str
    reason: str | None
    working_folder: Path

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of *environ*, by default this process's."""
        values = os.environ if environ is None else environ
        return cls(
            key_home=Path(fast.key_home()),
            environment=values.get("KEYTURN_ENVIRONMENT") or fast.DEFAULT_ENVIRONMENT,
            reason=values.get("KEYTURN_REASON") or None,
            working_folder=Path.cwd(),
        )


def local_principal() -> Principal:
    """Return the user that runs this process; the kernel vouches for the uid."""
    uid = os.getuid()
    try:
        import pwd

        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid-{uid}"
    return Principal(name=name, kind="local", uid=uid)


def local_source() -> dict[str, str | int]:
    """Return where this process runs, for the record: host, pid and login name."""
    source: dict[str, str | int] = {"host": socket.gethostname(), "pid": os.getpid()}
    try:
        # Who logged in, where that differs from who we are (sudo, su).
        login = os.getlogin()
    except OSError:
        return source
    if login != getpass.getuser():
        source["login"] = login
    return source
