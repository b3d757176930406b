"""
What must be denied, tried: who can read the store, the keys, and files that are another's.

From the operator's side the rights of each place are looked at and, by root, tried as
the user that a consumer runs as. From inside a consumer each place is opened for what
it is: rights, access lists, mounts and capabilities are then the kernel's affair.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn._internal.identity import opens, opens_as
from keyturn.app.checks import Check, Result
from keyturn.app.copies import copy_files
from keyturn.app.project import ProjectPaths
from keyturn.core.ids import EnvironmentName
from keyturn.manifest import Consumer, Manifest

__all__ = ["denied_inside", "denied_outside", "store_places"]

# Files looked at below one folder; a store has a few dozen.
_MOST_FILES = 2_000
_FOR_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class _Place:
    """Something that a consumer must not read."""

    name: str
    path: Path


def store_places(paths: ProjectPaths, keys: Iterable[Path]) -> list[_Place]:
    """Return the parts of the store that only its owner reads; *keys* are folders of keys."""
    return [
        _Place("store", paths.database),
        _Place("bundles", paths.bundles),
        _Place("read log", paths.audit),
        _Place("locator", paths.locator),
        *(_Place("keys", folder) for folder in keys),
    ]


def denied_outside(
    manifest: Manifest, environment: EnvironmentName, paths: ProjectPaths, keys: Path
) -> Iterator[Check]:
    """Yield what the operator can tell of who reads what; *keys* is the store's key folder."""
    yield _store_modes(paths, keys)
    for consumer in manifest.resolved_consumers[environment].values():
        yield from _as_owner(manifest, environment, paths, keys, consumer)


def _store_modes(paths: ProjectPaths, keys: Path) -> Check:
    open_to_others = []
    for top in (paths.state, keys):
        for path in _below(top):
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue  # gone since, as a file of another command may be
            if stat.S_ISLNK(mode) or not mode & _FOR_OTHERS:
                continue
            open_to_others.append(f"`{path}` has mode {stat.S_IMODE(mode):04o}")
            # Behind a closed folder nobody gets to it: it is wrong, and it is not open.
    if not open_to_others:
        return Check(
            "store", "denied", Result.PASS, "store, keys and bundles are the owner's alone"
        )
    tops = [top for top in (paths.state, keys) if top.lstat().st_mode & _FOR_OTHERS]
    result = Result.FAIL if tops else Result.WARN
    more = f", and {len(open_to_others) - 3} more" if len(open_to_others) > 3 else ""  # noqa: PLR2004 - a line's worth
    return Check("store", "denied", result, ", ".join(open_to_others[:3]) + more)


def _below(top: Path) -> Iterator[Path]:
    yield top
    left = _MOST_FILES
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            left -= 1
            if left < 0:
                return
            yield Path(folder, name)


def _as_owner(
    manifest: Manifest,
    environment: EnvironmentName,
    paths: ProjectPaths,
    keys: Path,
    consumer: Consumer,
) -> Iterator[Check]:
    who = _owner(consumer)
    if who is None or who[0] in {0, os.geteuid()}:
        return
    own = _own_files(manifest, environment, paths, consumer)
    places = [*store_places(paths, [keys]), *_others(manifest, environment, paths, consumer)]
    subject = str(consumer.name)
    if os.geteuid() != 0:
        reason = f"only root can try what the user {who[0]} can open"
        yield Check(subject, "denied", Result.SKIPPED, reason)
        return
    try:
        answers = opens_as(*who, [*own, *(place.path for place in places)])
    except OSError as error:
        yield Check(subject, "denied", Result.SKIPPED, f"{error.strerror}")
        return
    yield from _allowed(subject, own, answers[: len(own)])
    yield _refused(subject, places, answers[len(own) :])


def _owner(consumer: Consumer) -> tuple[int, int] | None:
    """Return the user and group that a consumer's file is given to; None where to nobody."""
    if consumer.render is None or not consumer.render.owner:
        return None
    user, _, group = consumer.render.owner.partition(":")
    try:
        known = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        uid, gid = known.pw_uid, known.pw_gid
    except KeyError:
        if not user.isdecimal():
            return None
        uid, gid = int(user), int(user)
    try:
        if group:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        return None
    return uid, gid


def denied_inside(
    manifest: Manifest,
    environment: EnvironmentName,
    paths: ProjectPaths,
    consumer: Consumer,
    keys: Iterable[Path],
) -> Iterator[Check]:
    """Yield what this process can open that *consumer* must not; *keys* are folders of keys."""
    places = [*store_places(paths, keys), *_others(manifest, environment, paths, consumer)]
    for place in places:
        yield _refused(place.name, [place], [opens(place.path)])


def _own_files(
    manifest: Manifest, environment: EnvironmentName, paths: ProjectPaths, consumer: Consumer
) -> list[Path]:
    if consumer.render is None:
        return []
    secrets = manifest.consumer_secrets(consumer.name, environment)
    return copy_files(paths.folder, consumer.render, secrets)


def _others(
    manifest: Manifest, environment: EnvironmentName, paths: ProjectPaths, consumer: Consumer
) -> list[_Place]:
    """Return the files of every other consumer, of whichever environment."""
    own = set(_own_files(manifest, environment, paths, consumer))
    found: dict[Path, _Place] = {}
    for where, consumers in manifest.resolved_consumers.items():
        for other in consumers.values():
            if other.name == consumer.name:
                continue
            for path in _own_files(manifest, where, paths, other):
                if path not in own:
                    found.setdefault(path, _Place(f"file of {other.name}", path))
    return list(found.values())


def _allowed(subject: str, own: Sequence[Path], answers: Sequence[bool | None]) -> Iterator[Check]:
    for path, answer in zip(own, answers, strict=True):
        if answer is False:
            yield Check(subject, "allowed", Result.FAIL, f"may not read its own `{path}`")
        elif answer:
            yield Check(subject, "allowed", Result.PASS, f"reads its own `{path}`")
        # Where it is absent, or a folder above it is closed, `delivered` says which.


def _refused(subject: str, places: Sequence[_Place], answers: Sequence[bool | None]) -> Check:
    readable = [
        f"{place.name} `{place.path}`"
        for place, answer in zip(places, answers, strict=True)
        if answer
    ]
    if readable:
        words = f"must be denied and can be read: {', '.join(readable)}"
        return Check(subject, "denied", Result.FAIL, words)
    absent = sum(answer is None for answer in answers)
    words = f"{len(answers) - absent} refused, {absent} not to be seen"
    if len(places) == 1:
        seen = "is not to be seen" if absent else "is refused"
        words = f"`{places[0].path}` {seen}"
    return Check(subject, "denied", Result.PASS, words)
