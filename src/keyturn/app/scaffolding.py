"""Use case: the files that are generated from the manifest, written or checked."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.project import ProjectPaths, find_project
from keyturn.app.session import read_manifest
from keyturn.app.waves import waves_of
from keyturn.core.ids import EnvironmentName
from keyturn.errors import Conflict, UsageError
from keyturn.manifest import Manifest
from keyturn.scaffold import Deployment, Family, File, is_ours, plan

__all__ = ["FAMILIES", "Scaffolded", "State", "Wishes", "scaffold"]

FAMILIES = tuple(family.value for family in Family)

_PROGRAM = "/usr/local/bin/keyturn"
_MAX_FILE_BYTES = 1024 * 1024
# Written into units, tables of cron and shell lines as it is.
_PATH = re.compile(r"/[A-Za-z0-9/._@+-]{0,1023}", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}", re.ASCII)
_UNIT = re.compile(r"[A-Za-z0-9:_.@%-]{1,250}", re.ASCII)
# Platforms that a project may not have: generated where they are asked for or there already.
_ON_DEMAND = {Family.CRON: "deploy/keyturn.cron", Family.KUBERNETES: "deploy/keyturn-cronjob.yaml"}
_MAX_USER = 31


class State(StrEnum):
    """How a file is, compared with what the manifest gives."""

    CURRENT = "current"
    ABSENT = "absent"
    DIFFERS = "differs"
    SURPLUS = "surplus"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What was asked for; None leaves it to us.

    Args:
        families: Empty for all that the manifest has cause for.
        environment: The one that timers and commands are for.
        folder: Where the project lies on the machine that it runs on.
        program: The command `keyturn` there.
        user: Whose the store is there.
        key_home: Where the keys lie there.
        on_failure: The unit that systemd starts when one of ours fails.
    """

    families: Sequence[str] = ()
    environment: str | None = None
    folder: str | None = None
    program: str | None = None
    user: str | None = None
    key_home: str | None = None
    on_failure: str | None = None


@dataclass(frozen=True, slots=True)
class Scaffolded:
    """
    One file.

    Args:
        state: As it was before anything was written.
        difference: From what is there to what the manifest gives, as a unified diff.
        mode: The permission bits that are to change; None where they are right.
        written: It is now as the manifest gives it.
    """

    family: str
    path: str
    state: State
    difference: Sequence[str] = ()
    mode: int | None = None
    written: bool = False


def scaffold(
    project_dir: Path | None, key_home: Path, wishes: Wishes, *, write: bool, replace: bool = False
) -> list[Scaffolded]:
    """
    Compare the generated files with what the manifest gives, and write those that differ.

    Needs no store: a manifest holds no value.

    Args:
        write: False says what would be written.
        replace: Also over files that Keyturn did not write.

    Raises:
        NotFound: There is no project, or no such environment.
        ManifestError: The manifest is wrong.
        UsageError: A wish cannot be written into the files.
        Conflict: A file of somebody else stands in the way, or a folder leads out of the
            project; nothing is written.
        OSError: A file cannot be written; those before it are.

    Crash safety:
        Each file is the old one or the new one. Run it again for the rest.
    """
    paths = find_project(project_dir, key_home)
    manifest, _ = read_manifest(paths)
    files = _planned(paths, manifest, wishes)
    found = [_compared(paths.folder, file) for file in files]
    if not write:
        return [each for each in found if each is not None]
    foreign = [each.path for each in found if each is not None and each.state is State.FOREIGN]
    if foreign and not replace:
        listed = ", ".join(f"`{path}`" for path in foreign)
        raise Conflict(
            f"{listed}: there already, and keyturn did not write it",
            hint="move it away, name the families to generate, or write over it with "
            "`keyturn scaffold --replace`; `--check` shows the differences",
            code="scaffold.foreign",
        )
    return [
        _written(paths.folder, file, each)
        for file, each in zip(files, found, strict=True)
        if each is not None
    ]


def _planned(paths: ProjectPaths, manifest: Manifest, wishes: Wishes) -> list[File]:
    deployment = _deployment(manifest, wishes)
    waves = waves_of(manifest, deployment.environment)
    example = _read(_place(paths.folder, ".env.example"))
    return plan(
        manifest,
        deployment,
        families=_families(paths.folder, wishes),
        order=[[secret.name for secret in wave] for wave in waves],
        example=None if example is None else example[0],
    )


def _families(folder: Path, wishes: Wishes) -> Collection[Family]:
    if wishes.families:
        return {Family(word) for word in wishes.families}
    return {
        family
        for family in Family
        if family not in _ON_DEMAND or os.path.lexists(folder / _ON_DEMAND[family])
    }


def _deployment(manifest: Manifest, wishes: Wishes) -> Deployment:
    environment = _environment(manifest, wishes.environment)
    name = manifest.project.name
    user = _fit(wishes.user or name[:_MAX_USER].rstrip("-"), _USER, "a user's name", "--user")
    unit = wishes.on_failure
    return Deployment(
        environment=environment,
        folder=_absolute(wishes.folder or f"/opt/{name}", "--at"),
        program=_absolute(wishes.program or _PROGRAM, "--program"),
        user=user,
        key_home=_absolute(wishes.key_home or f"/var/lib/{name}/keyturn", "--key-home"),
        on_failure=None if unit is None else _fit(unit, _UNIT, "a unit", "--on-failure"),
        options=_typed(wishes),
    )


def _environment(manifest: Manifest, given: str | None) -> EnvironmentName:
    """Return what is meant: `production`, else what is protected, else the first one."""
    if given is not None:
        return manifest.environment(given).name
    protected = [name for name, each in manifest.environments.items() if each.protected]
    production = EnvironmentName("production")
    if production in manifest.environments:
        return production
    return [*protected, *manifest.environments][0]


def _typed(wishes: Wishes) -> str:
    options = (
        ("-e", wishes.environment),
        ("--at", wishes.folder),
        ("--program", wishes.program),
        ("--user", wishes.user),
        ("--key-home", wishes.key_home),
        ("--on-failure", wishes.on_failure),
    )
    return "".join(f" {option} {text}" for option, text in options if text is not None)


def _absolute(text: str, option: str) -> str:
    what = "an absolute path of letters, digits and `/._@+-`"
    found = _fit(text, _PATH, what, option)
    if ".." in found.split("/"):
        raise UsageError(f"`{option}` must be {what}", hint="write it without `..`")
    return found.rstrip("/") or "/"


def _fit(text: str, pattern: re.Pattern[str], what: str, option: str) -> str:
    if pattern.fullmatch(text) is None:
        raise UsageError(
            f"`{option}` must be {what}",
            hint="other characters mean something to cron, systemd or the shell",
        )
    return text


def _place(folder: Path, path: str) -> Path:
    """
    Return where *path* is.

    Raises:
        Conflict: Its folder is a link that leads out of the project, or no folder.
    """
    place = folder / path
    parent = place.parent.resolve()
    if not parent.is_relative_to(folder.resolve()):
        raise Conflict(
            f"`{place.parent}` leads out of the project",
            hint="remove the link; nothing was written",
            code="scaffold.place",
        )
    return place


def _read(place: Path) -> tuple[str, int] | None:
    """Return text and mode of the file at *place*; None where it is no plain file of ours."""
    try:
        # Not blocking: a pipe in the file's place would be waited for.
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        data = file.read(_MAX_FILE_BYTES + 1)
    return data.decode("utf-8", "surrogateescape"), stat.S_IMODE(status.st_mode)


def _compared(folder: Path, file: File) -> Scaffolded | None:
    place = _place(folder, file.path)
    found = _read(place)
    if found is not None:
        return _compared_text(file, *found)
    if os.path.lexists(place):
        # A link, a folder, or a file that cannot be read: whatever it is, not ours.
        return Scaffolded(file.family, file.path, State.FOREIGN)
    if file.text is None:
        return None
    return Scaffolded(file.family, file.path, State.ABSENT, _difference("", file))


def _compared_text(file: File, text: str, mode: int) -> Scaffolded | None:
    ours = file.shared or not text.strip() or is_ours(text)
    if file.text is None:
        if file.shared or not ours:
            return None
        return Scaffolded(file.family, file.path, State.SURPLUS, _difference(text, file))
    # Only whether it can be run matters: who may read it is the project's affair.
    wrong = None if file.mode & 0o111 == mode & 0o111 & file.mode else file.mode
    if text == file.text and wrong is None:
        return Scaffolded(file.family, file.path, State.CURRENT)
    state = State.DIFFERS if ours else State.FOREIGN
    return Scaffolded(file.family, file.path, state, _difference(text, file), mode=wrong)


def _difference(text: str, file: File) -> list[str]:
    lines = difflib.unified_diff(
        # Not by `splitlines`: a line's end that differs is to be seen too.
        text.split("\n"),
        (file.text or "").split("\n"),
        fromfile=file.path,
        tofile=f"{file.path} (from keyturn.toml)",
        lineterm="",
        n=2,
    )
    return list(lines)


def _written(folder: Path, file: File, found: Scaffolded) -> Scaffolded:
    if found.state is State.CURRENT:
        return found
    place = _place(folder, file.path)
    if file.text is None:
        durable.unlink(place)
    else:
        mode = file.mode
        if file.shared and (present := _read(place)) is not None:
            mode = present[1]
        durable.create_directory(place.parent, mode=0o755)
        data = file.text.encode("utf-8", "surrogateescape")
        durable.replace(place, data, mode=mode, point="scaffold")
    return Scaffolded(
        found.family, found.path, found.state, found.difference, found.mode, written=True
    )
