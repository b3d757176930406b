"""Rules that keep values out of version control, and proof that git heeds them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.reading import read_plain

__all__ = ["ensure_ignored", "read_rules"]

_HEADER = "# Values and keys stay out of version control (Keyturn)"
_RULES = (".env", ".env.*", "!.env.example", ".keyturn/", ".*.keyturn-*")
_GIT_SECONDS = 10
_MAX_BYTES = 1024 * 1024


def ensure_ignored(folder: Path, rendered: Iterable[str]) -> tuple[list[str], list[str]]:
    """
    Make `.gitignore` in *folder* ignore `.env*`, `.keyturn/` and the *rendered* files.

    A rule that a later line or another ignore file takes back is no rule: what git
    really does is asked of git.

    Returns:
        The rules added, and the paths that would still be taken in.
    """
    path = folder / ".gitignore"
    text = read_rules(path)
    present = {line.strip() for line in text.splitlines()}
    wanted = [*_RULES, *(f"/{name}" for name in rendered)]
    missing = [rule for rule in wanted if rule not in present]
    if missing:
        lines = [_HEADER, *missing]
        gap = "" if not text or text.endswith("\n") else "\n"
        new = f"{text}{gap}" + ("\n" if text else "") + "\n".join(lines) + "\n"
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        durable.replace(path, new.encode("utf-8", "surrogateescape"), mode=mode, point="ignore")
    probes = [".env", ".env.production", ".keyturn/store.db", *rendered]
    return missing, _taken_in(folder, probes)


def read_rules(path: Path) -> str:
    """
    Return what the ignore file *path* says; empty where there is none.

    Raises:
        UsageError: It is no plain file, or larger than 1 MiB.
    """
    try:
        data = read_plain(path, _MAX_BYTES, hint="move it away, and run `keyturn init` again")
    except FileNotFoundError:
        return ""
    return data.decode("utf-8", "surrogateescape")


def _taken_in(folder: Path, probes: list[str]) -> list[str]:
    inside = _git(folder, "rev-parse", "--is-inside-work-tree")
    if inside is None or inside.returncode != 0:
        return _taken_in_by_text(folder, probes)
    found = []
    for probe in probes:
        # --no-index: a file that is tracked already is taken in whatever the rules say.
        answer = _git(folder, "check-ignore", "--quiet", "--no-index", "--", probe)
        tracked = _git(folder, "ls-files", "--error-unmatch", "--", probe)
        if answer is None or answer.returncode != 0:
            found.append(f"`{probe}`: another rule takes it back in")
        elif tracked is not None and tracked.returncode == 0:
            found.append(f"`{probe}`: it is tracked already; `git rm --cached {probe}`")
    return found


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            check=False,
            timeout=_GIT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _taken_in_by_text(folder: Path, probes: list[str]) -> list[str]:
    # Without git: the last plain rule that names a probe exactly decides.
    lines = read_rules(folder / ".gitignore").splitlines()
    found = []
    for probe in probes:
        names = {probe, f"/{probe}", f"{probe.split('/')[0]}/"}
        last = [line.strip() for line in lines if line.strip().lstrip("!") in names]
        if last and last[-1].startswith("!"):
            found.append(f"`{probe}`: a later line of .gitignore takes it back in")
    return found
