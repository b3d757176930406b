"""Use case: make a project, or the store of one that was cloned."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyturn._internal import durable, failpoints
from keyturn._internal.database import Database, require_plain
from keyturn.app.config import Settings, local_principal, local_source
from keyturn.app.ignoring import ensure_ignored, read_rules
from keyturn.app.project import ProjectPaths
from keyturn.app.reading import read_plain
from keyturn.app.session import MAX_MANIFEST_BYTES, SIGNING_KEY, write_bundle_key
from keyturn.audit import Action, AuditLog, Event, Outcome
from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.ids import new_id
from keyturn.core.value import SecretValue
from keyturn.crypto import new_signing_key
from keyturn.errors import (
    Conflict,
    NotFound,
    OutcomeUnknown,
    Problem,
    Unavailable,
    UsageError,
)
from keyturn.manifest import draft, load, parse_env
from keyturn.stores import Anchor, create, describe, write_anchor

__all__ = ["Started", "find_example", "is_example", "read_example", "start_project"]

_MAX_EXAMPLE_BYTES = 1024 * 1024
# What a state folder holds, by the beginnings of the names.
_OURS = ("store.db", "audit", "bundles", "locator", ".locator.")
_MANIFEST_HINT = "move it away: `keyturn init` drafts another"


@dataclass(slots=True)
class Started:
    """
    What `init` did.

    Args:
        manifest_written: False where a manifest was there already.
        store_made: False where a store was there already and only needed finishing.
        review: What the draft is unsure of.
        findings: Placeholders in the example that look like real values.
        ignored: Rules that were added to `.gitignore`.
        not_ignored: Paths that git would still take in, and why.
    """

    folder: Path
    key_folder: Path
    manifest_written: bool = False
    store_made: bool = False
    secrets: int = 0
    settings: int = 0
    review: Sequence[str] = ()
    findings: Sequence[Problem] = ()
    ignored: list[str] = field(default_factory=list)
    not_ignored: list[str] = field(default_factory=list)


def start_project(
    settings: Settings,
    *,
    folder: Path,
    example: Path | None,
    name: str | None,
    ask_passphrase: Callable[[], SecretValue] | None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
) -> Started:
    """
    Draft the manifest where there is none, keep secrets out of git, and make the store.

    Each part that is there already is left alone, so an `init` that was cut short
    is finished by running it again.

    Args:
        example: What to draft from; None looks for a `.env.example` in the folder, and
            drafts an empty manifest where there is none.
        ask_passphrase: Gives the passphrase that takes the key file's place.

    Raises:
        Conflict: The project has a store; or it has a manifest and *example* was given; or
            something else stands where the store is to be.
        Unavailable: The disk is full, or did not answer; the hint says what is left behind.
    """
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    paths = ProjectPaths(folder.resolve(), settings.key_home)
    _refuse_keys_within(paths)
    if paths.locator.exists():
        more = f"; `keyturn init --update --from {example}` adds what is new in that file"
        raise Conflict(
            f"`{paths.folder}` has a store already",
            hint=f"`keyturn status` shows it; nothing was changed{more if example else ''}",
            code="project.exists",
        )
    started = Started(folder=paths.folder, key_folder=paths.key_home)
    # Before anything is written: what cannot be added to is found out at once.
    read_rules(paths.folder / ".gitignore")
    _check_places(paths)
    if paths.manifest.exists() and example is not None:
        raise Conflict(
            f"`{paths.manifest}` exists and is not overwritten",
            hint="run `keyturn init` without `--from` to make its store; "
            f"`keyturn init --update --from {example}` adds what is new in that file",
            code="project.manifest_exists",
        )
    try:
        if not paths.manifest.exists():
            _draft(paths, example or find_example(paths.folder), name, started)
        data = read_plain(paths.manifest, MAX_MANIFEST_BYTES, hint=_MANIFEST_HINT)
        manifest = load(data, file=str(paths.manifest))
        rendered = [c.render.path for c in manifest.consumers.values() if c.render is not None]
        started.ignored, started.not_ignored = ensure_ignored(paths.folder, rendered)
        _make_store(paths, manifest.project.name, ask_passphrase, started, clock, entropy)
    except PermissionError:
        raise
    except OSError as error:
        raise Unavailable(
            f"the project cannot be made in `{paths.folder}`: {error.strerror}",
            hint=_way_on(paths),
            code="project.cut_short",
        ) from error
    except (Unavailable, OutcomeUnknown) as error:
        error.hint = _way_on(paths)
        raise
    return started


def _check_places(paths: ProjectPaths) -> None:
    """
    Refuse what stands where the store is to be, and close a folder of ours to others.

    Raises:
        Conflict: It is no folder, or holds what is none of Keyturn's.
        Corrupt: There is no plain file in the store's place.
        AccessDenied: The folder is another's, or others could have put something into it.
    """
    for place in (paths.state, paths.audit, paths.bundles, paths.key_home):
        if place.is_symlink() or place.exists():
            followed = place == paths.key_home and place.is_dir()
            if not followed and not stat.S_ISDIR(place.lstat().st_mode):
                raise _in_the_way(f"`{place}` is no folder, which the store needs there")
    if paths.state.exists():
        _close_state(paths)
        require_plain(paths.database)


def _close_state(paths: ProjectPaths) -> None:
    status = paths.state.stat()
    is_mine = status.st_uid == os.geteuid()
    held = {entry.name for entry in paths.state.iterdir()} if is_mine else set()
    if held or not is_mine:
        paths.check_state()
    if not status.st_mode & 0o077:
        return
    strange = sorted(name for name in held if not name.startswith(_OURS))
    if strange:
        raise _in_the_way(
            f"others can read `{paths.state}`, which holds `{strange[0]}`: none of Keyturn's"
        )
    paths.state.chmod(0o700)


def _in_the_way(message: str) -> Conflict:
    return Conflict(
        message,
        hint="nothing was changed; move it away and run the command again",
        code="project.in_the_way",
    )


def _way_on(paths: ProjectPaths) -> str:
    """Return what a person can do after an `init` that was cut short."""
    left = [path.name for path in (paths.manifest, paths.state) if path.exists()]
    if not left:
        return "nothing was made; free space and run the command again"
    return (
        f"left behind: `{'`, `'.join(left)}`; free space (or set KEYTURN_HOME to another place "
        "for the keys) and run `keyturn init`, without `--from`, which finishes it"
    )


def _refuse_keys_within(paths: ProjectPaths) -> None:
    home = paths.key_home
    if not home.is_absolute() or home.resolve().is_relative_to(paths.folder):
        raise UsageError(
            f"the keys would lie in `{home}`, with the project",
            hint="set KEYTURN_HOME to an absolute path outside of it, or leave it unset",
            code="project.keys_within",
        )


def _draft(paths: ProjectPaths, example: Path | None, name: str | None, started: Started) -> None:
    if example is None:
        data, label = b"", "nothing"
    else:
        data, label = read_example(example), str(example)
    file = parse_env(data, file=label)
    drafted = draft(
        file,
        project_name=name or _name_of(paths.folder),
        example=example is None or is_example(example),
    )
    failpoints.hit("init.manifest")
    durable.replace(paths.manifest, drafted.text.encode("utf-8"), mode=0o644, point="manifest")
    started.manifest_written = True
    started.review = [str(item) for item in drafted.review]
    started.findings = [*file.problems, *drafted.findings]
    started.secrets = len(drafted.secrets)
    started.settings = len(drafted.settings)


_EXAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist")


def find_example(folder: Path) -> Path | None:
    """
    Return the example of an .env in *folder*, or None where there is nothing to draft from.

    Raises:
        UsageError: There is a real `.env` alone: drafting from that is to be asked for.
    """
    for name in _EXAMPLES:
        # One that is no file is refused where it is read, not passed over.
        if (folder / name).exists():
            return folder / name
    if (folder / ".env").is_file():
        raise UsageError(
            "there is an `.env` here, and no example of it to draft keyturn.toml from",
            hint="`keyturn init --from .env` drafts from it; no secret's value is copied",
            code="project.example",
        )
    return None


def is_example(path: Path) -> bool:
    """Tell by its name whether *path* is an example of an .env, and not a real one."""
    return any(word in path.name for word in ("example", "sample", "template", "dist"))


def read_example(example: Path) -> bytes:
    """
    Return the content of *example*.

    Raises:
        NotFound: It is not there.
        UsageError: It cannot be read, or is larger than 1 MiB.
    """
    try:
        return read_plain(example, _MAX_EXAMPLE_BYTES)
    except FileNotFoundError:
        raise NotFound(
            f"no file `{example}`",
            hint="name another with `--from`: an example of the .env, or the .env itself, of "
            "which no secret's value is copied",
            code="project.example_absent",
        ) from None


def _name_of(folder: Path) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.name.lower())
    name = kept.strip("-").lstrip("0123456789-")[:63].rstrip("-")
    return name or "project"


def _make_store(  # noqa: PLR0917 - private, and called once
    paths: ProjectPaths,
    project: str,
    ask_passphrase: Callable[[], SecretValue] | None,
    started: Started,
    clock: Clock,
    entropy: Entropy,
) -> None:
    durable.create_directory(paths.state)
    paths.check_state()
    for place in (paths.audit, paths.bundles):
        durable.create_directory(place)
    with Database.open(paths.database, create=True) as database:
        if database.row("SELECT 1 FROM meta") is None:
            # Not before: a store that only needs finishing has its passphrase already.
            phrase = ask_passphrase() if ask_passphrase is not None else None
            store_id = new_id(entropy)
            _make_keys_folder(paths, store_id)
            _create(database, paths, store_id, project, phrase, clock, entropy)
            started.store_made = True
        identity = describe(database)
        head = AuditLog(database, clock=clock, store_id=identity.store_id).head()
    keys = paths.keys(identity.store_id)
    write_anchor(keys, Anchor(identity.store_id, head.seq, head.head))
    started.key_folder = keys
    if identity.passphrase is None:
        write_bundle_key(keys)
    failpoints.hit("init.locator")
    paths.write_locator(identity.store_id)


def _make_keys_folder(paths: ProjectPaths, store_id: str) -> None:
    durable.create_directory(paths.key_home)
    durable.create_directory(paths.keys(store_id))


def _create(  # noqa: PLR0917 - private, and called once
    database: Database,
    paths: ProjectPaths,
    store_id: str,
    project: str,
    phrase: SecretValue | None,
    clock: Clock,
    entropy: Entropy,
) -> None:
    signing_key = new_signing_key(entropy)
    # The store and the first record of its log are one transaction.
    with database.transaction():
        create(
            database,
            store_id=store_id,
            project=project,
            home=paths.keys(store_id),
            phrase=phrase,
            items={SIGNING_KEY: signing_key},
            clock=clock,
            entropy=entropy,
        )
        AuditLog(database, clock=clock, store_id=store_id).record(
            Event(
                action=Action.PROJECT_CREATE,
                object=project,
                outcome=Outcome.DONE,
                actor=local_principal(),
                source=local_source(),
                detail={"root_key": "key-file" if phrase is None else "passphrase"},
            )
        )
