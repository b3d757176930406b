"""`deploy/keyturn.cron`: for machines without systemd, in the form of `/etc/cron.d`."""

from __future__ import annotations

import re
import zlib

from keyturn.manifest import Manifest
from keyturn.scaffold._model import Deployment, Family, File, header
from keyturn.scaffold._words import comment

__all__ = ["files"]

_PATH = "deploy/keyturn.cron"
_MAIL = re.compile(r"mailto:([A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,255})")


def files(manifest: Manifest, deployment: Deployment) -> list[File]:
    """Return the table."""
    name, found = manifest.project.name, deployment
    zone = manifest.environments[found.environment].timezone
    mail = _MAIL.fullmatch(manifest.contacts.on_call or manifest.contacts.security or "")
    # In a command of cron `%` is a line break; the folder and the program have none.
    run = f"{found.program} {{}} --project-dir {found.folder} -e {found.environment} -q"
    lines = [
        f"# {header(found, Family.CRON)}",
        f"# Copy to /etc/cron.d/{name}-keyturn, owned by root, mode 0644. For machines without",
        "# systemd: its timers make up for runs missed while the machine was off, cron does not.",
        f"# cron uses the machine's own clock; keyturn.toml says {comment(zone)}.",
        "SHELL=/bin/sh",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        f"KEYTURN_HOME={found.key_home}",
        *([f"MAILTO={mail[1]}"] if mail else ["# MAILTO= is the user below: nobody else is named"]),
        "# Monday 09:00: what is due and overdue, to the contacts.",
        f"0 9 * * 1 {found.user} {run.format('remind')}",
        "# Every hour: all that is due, and what was interrupted. The minute is the project's",
        "# own, so that many projects do not begin together.",
        f"{zlib.crc32(name.encode()) % 60} * * * * {found.user} {run.format('tick')}",
    ]
    return [File(Family.CRON, _PATH, "\n".join(lines) + "\n")]
