"""What a command imports."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.projects import KEYTURN


def imported(project, *words):
    """Return the modules that `keyturn` imports for *words*, as `-X importtime` lists them."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", KEYTURN, *words],
        cwd=project.folder,
        env=project.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {row.rpartition("|")[2].strip() for row in rows[1:]}
