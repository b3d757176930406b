"""Where a project's files are, and what its folders must look like before we trust them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from keyturn import fast
from keyturn._internal import durable
from keyturn.errors import AccessDenied, Corrupt, NotFound

__all__ = ["ProjectPaths", "find_project"]


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """
    The places of one project.

    Args:
        folder: Holds `keyturn.toml`.
        key_home: Holds one folder a store, outside the repository.
    """

    folder: Path
    key_home: Path

    @property
    def manifest(self) -> Path:
        return self.folder / fast.MANIFEST

    @property
    def state(self) -> Path:
        return self.folder / fast.STATE_FOLDER

    @property
    def database(self) -> Path:
        return self.state / "store.db"

    @property
    def locator(self) -> Path:
        return self.state / "locator"

    @property
    def audit(self) -> Path:
        return self.state / "audit"

    @property
    def bundles(self) -> Path:
        return self.state / "bundles"

    def keys(self, store_id: str) -> Path:
        """Return the key folder of the store *store_id*."""
        return self.key_home / store_id

    def store_id(self) -> str:
        """
        Return the id that the locator holds.

        Raises:
            NotFound: The project has no store yet.
            AccessDenied: The folder belongs to another user or others may write it.
            Corrupt: The locator is damaged.
        """
        self.check_state()
        try:
            text = fast.read_private(str(self.locator), 256).decode("ascii", "replace")
        except FileNotFoundError:
            raise NotFound(
                f"`{self.folder}` has a manifest but no store",
                hint="run `keyturn init` there",
                code="project.no_store",
            ) from None
        except OSError as error:
            raise AccessDenied(
                f"`{self.locator}` cannot be trusted: {error.strerror or 'open to others'}",
                hint=f"it must belong to you, with mode 0600: `chmod 600 {self.locator}`",
            ) from None
        mark, _, store_id = text.strip().partition(" ")
        if mark != fast.LOCATOR_MARK or not store_id.isalnum():
            raise Corrupt(
                f"`{self.locator}` is damaged",
                hint="it holds `keyturn-locator-1 STORE-ID`; the id names a folder of "
                f"`{self.key_home}`",
            )
        return store_id

    def check_state(self) -> None:
        """
        Refuse a state folder that somebody else owns or may write.

        Raises:
            NotFound: There is none.
            AccessDenied: It is not ours alone.
        """
        try:
            status = self.state.stat(follow_symlinks=False)
        except FileNotFoundError:
            raise NotFound(
                f"`{self.folder}` has a manifest but no store",
                hint="run `keyturn init` there",
                code="project.no_store",
            ) from None
        if status.st_uid != os.geteuid():
            raise AccessDenied(
                f"`{self.state}` belongs to uid {status.st_uid}, and you are {os.geteuid()}",
                hint="run the command as the owner, for example with `sudo -u`",
            )
        if status.st_mode & 0o022:
            raise AccessDenied(
                f"others may write to `{self.state}`", hint=f"`chmod 700 {self.state}`"
            )

    def write_locator(self, store_id: str) -> None:
        """Say which store this is; durable on return."""
        durable.replace(
            self.locator, f"{fast.LOCATOR_MARK} {store_id}\n".encode("ascii"), point="locator"
        )


def find_project(start: Path | None, key_home: Path) -> ProjectPaths:
    """
    Return the project at *start*, or at or above the working folder.

    Args:
        start: The project's own folder; None searches upwards.

    Raises:
        NotFound: No `keyturn.toml` there.
    """
    if start is not None:
        folder = start.resolve()
        if not (folder / fast.MANIFEST).is_file():
            raise NotFound(
                f"no `{fast.MANIFEST}` in `{folder}`",
                hint="run `keyturn init` there, or name another folder with `--project-dir`",
                code="project.absent",
            )
        return ProjectPaths(folder, key_home)
    found = fast.find_project("")
    if found is None:
        raise NotFound(
            f"no `{fast.MANIFEST}` here or above",
            hint="run `keyturn init --from .env.example` in the project's folder",
            code="project.absent",
        )
    return ProjectPaths(Path(found), key_home)
