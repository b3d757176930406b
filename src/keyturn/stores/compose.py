"""Docker Compose as a store: its file secrets, which containers find in `/run/secrets`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.ports import StoreCapabilities
from keyturn.stores._context import StoreContext
from keyturn.stores._docker_files import ComposeFiles, ComposePlace
from keyturn.stores._rules import MAX_VALUE_BYTES
from keyturn.stores.outside import OutsideStore

__all__ = ["ComposeFiles", "ComposeLayout", "build", "layout"]

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=MAX_VALUE_BYTES,
)
_FOLDER = "{environment}"
_STATE = ".keyturn-state"
_SAME = -1


def build(context: StoreContext) -> OutsideStore:
    """
    Return the store that *context* describes.

    Raises:
        UsageError: The folder leaves the project.
    """
    return OutsideStore(layout(context), clock=context.clock, entropy=context.entropy)


def layout(context: StoreContext) -> ComposeLayout:
    """Return the files of *context*, for what a store cannot be asked: advice."""
    pattern = context.text("folder") or "secrets"
    if _FOLDER not in pattern:
        pattern += f"/{_FOLDER}"
    uid, gid = context.number("uid"), context.number("gid")

    def files(environment: EnvironmentName) -> ComposeFiles:
        live = context.file(pattern, environment)
        return ComposeFiles(
            live,
            live.parent / _STATE / environment,
            uid=_SAME if uid is None else uid,
            gid=_SAME if gid is None else gid,
            live_key=lambda name, field: context.live_key(environment, name, field),
        )

    return ComposeLayout(files, where=f"the folder {pattern}")


@final
class ComposeLayout:
    """
    File secrets as a `Layout`: one place an environment.

    Args:
        files: Returns where those of an environment lie.
        where: For messages.
    """

    history_limit = None

    def __init__(self, files: Callable[[EnvironmentName], ComposeFiles], *, where: str) -> None:
        self._files = files
        self._where = where

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        return _CAPABILITIES

    @property
    def where(self) -> str:
        """For messages."""
        return self._where

    def place(self, ref: SecretRef) -> ComposePlace:
        """Return the place that holds *ref*."""
        return ComposePlace(self._files(ref.environment))

    def places(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterable[ComposePlace]:
        """Return the one place of *environment*."""
        del names
        return [ComposePlace(self._files(environment))]

    def advice(self, environment: EnvironmentName) -> list[str]:
        """
        Return in words what the container's user would stumble over.

        Raises:
            Unavailable: The folder cannot be read.
        """
        return ComposePlace(self._files(environment)).advice()

    def close(self) -> None:
        """Nothing is held open."""
