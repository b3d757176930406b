"""Use case: put what is new in an example of the .env into the manifest."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn._internal import durable
from keyturn.app.project import ProjectPaths
from keyturn.app.reading import read_plain
from keyturn.app.session import MAX_MANIFEST_BYTES
from keyturn.app.start import find_example, is_example, read_example
from keyturn.errors import NotFound, UsageError
from keyturn.manifest import Update, load, parse_env, update

__all__ = ["Updated", "update_manifest"]


@dataclass(frozen=True, slots=True)
class Updated:
    """
    What `init --update` did, or would do.

    Args:
        example: What the manifest was compared with.
        difference: Of the manifest, as lines of a unified diff; empty where nothing is new.
        written: False on a dry run, and where nothing is new.
    """

    manifest: Path
    example: Path
    update: Update
    difference: Sequence[str]
    written: bool


def update_manifest(folder: Path, key_home: Path, *, example: Path | None, write: bool) -> Updated:
    """
    Add the variables of *example* that the manifest in *folder* does not declare.

    Needs no store: a manifest holds no value.

    Args:
        example: None looks for a `.env.example` in the folder.
        write: False says what would be added.

    Raises:
        NotFound: There is no manifest, or no example.
        ManifestError: The manifest is wrong already.
        UsageError: What is new does not fit into it.
        OSError: The manifest cannot be written; it is as it was.
    """
    paths = ProjectPaths(folder.resolve(), key_home)
    if not paths.manifest.exists():
        raise NotFound(
            f"no `{paths.manifest.name}` in `{paths.folder}` to update",
            hint="`keyturn init` drafts the first one",
            code="project.absent",
        )
    found = example or _example_in(paths.folder)
    data = read_plain(paths.manifest, MAX_MANIFEST_BYTES)
    load(data, file=str(paths.manifest))
    text = data.decode("utf-8")
    parsed = parse_env(read_example(found), file=str(found))
    done = update(text, parsed, example=is_example(found))
    changed = done.text != text
    if changed and write:
        mode = paths.manifest.stat().st_mode & 0o777
        durable.replace(paths.manifest, done.text.encode("utf-8"), mode=mode, point="manifest")
    return Updated(
        manifest=paths.manifest,
        example=found,
        update=done,
        difference=_difference(text, done.text, paths.manifest.name),
        written=changed and write,
    )


def _example_in(folder: Path) -> Path:
    try:
        found = find_example(folder)
    except UsageError:
        # A real .env beside it is compared with only where somebody names it.
        found = None
    if found is None:
        raise UsageError(
            f"there is no example of an .env in `{folder}`",
            hint="name one with `--from`",
            code="project.example",
        )
    return found


def _difference(old: str, new: str, name: str) -> list[str]:
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), fromfile=name, tofile=f"{name} (updated)", lineterm=""
    )
    return list(lines)
