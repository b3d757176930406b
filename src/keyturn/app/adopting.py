"""Use case: declare in the manifest what a real .env sets and it does not declare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keyturn._internal import durable
from keyturn.app.delivery import refresh_bundle
from keyturn.app.session import MAX_MANIFEST_BYTES, Session, read_manifest
from keyturn.core.ids import EnvironmentName, VariableName
from keyturn.errors import Conflict, ManifestError, UsageError
from keyturn.manifest import Adoption, EnvFile, Manifest, adopt, load

__all__ = ["Adopting", "begin_adopting", "renew_bundle"]


@dataclass(slots=True)
class Adopting:
    """
    An adoption that is under way.

    Between `begin_adopting` and `finish` the session works with the manifest that is to be,
    so that the values are in the store before the file says that they are.

    Args:
        adoption: What is new; None where that could not be found out.
        why: Why the manifest is left as it is; empty where it is not.
        unwritable: The manifest's file could not be written.
        switched: The session was given the manifest that is to be.
    """

    session: Session
    adoption: Adoption | None
    why: str
    old: Manifest
    text: str
    unwritable: bool = False
    switched: bool = False

    @property
    def written(self) -> Adoption | None:
        """What the manifest has come to declare; None where it is left as it is."""
        return None if self.why or not self._has_news() else self.adoption

    @property
    def failed(self) -> bool:
        """Whether something is to be declared and is not."""
        return bool(self.why) and self._has_news()

    def missed(self, unknown: Iterable[VariableName]) -> list[VariableName]:
        """Return the variables that nothing declares: those that are *unknown*, and the news."""
        names = dict.fromkeys(unknown)
        if self.failed and self.adoption is not None:
            for one in self.adoption.secrets:
                names |= dict.fromkeys(one.variables)
            names |= dict.fromkeys(self.adoption.settings)
        return list(names)

    def _has_news(self) -> bool:
        return self.adoption is None or self.adoption.text != self.text

    def finish(self) -> None:
        """
        Write the manifest; where that fails, `why` says so and it is as it was.

        Raises:
            Conflict: Somebody else has changed the file meanwhile.

        Crash safety:
            Before the file is written the store holds values of secrets that the manifest
            does not name yet; the same import again declares them.
        """
        found = self.written
        if found is None:
            return
        path = self.session.paths.manifest
        if _read(self.session) != self.text:
            self.session.manifest = self.old
            raise Conflict(
                "keyturn.toml was changed while its values were imported",
                hint="import again: it declares what is new, and changes nothing else",
                code="manifest.changed",
            )
        try:
            mode = path.stat().st_mode & 0o777
            durable.replace(path, found.text.encode("utf-8"), mode=mode, point="manifest")
        except OSError as error:
            self.unwritable = True
            self.why = f"keyturn.toml cannot be written: {error.strerror}"
            self.session.manifest = self.old


def begin_adopting(
    session: Session, environment: EnvironmentName, file: EnvFile, *, write: bool
) -> Adopting:
    """
    Find what of *file* is to be declared, and let *session* work as if it were.

    In a protected environment the manifest is a person's to change.

    Args:
        write: False leaves the manifest alone.
    """
    why = "" if write else "keyturn.toml is left alone (`--no-settings`)"
    if session.manifest.environments[environment].protected:
        why = why or f"`{environment}` is protected, so keyturn.toml is yours to change"
    text = _read(session)
    old = session.manifest
    try:
        found = adopt(text, file, environment)
        new = load(found.text.encode("utf-8"), file="keyturn.toml")
    except (ManifestError, UsageError) as error:
        return Adopting(session, None, error.message, old, text)
    switched = not why and found.text != text
    if switched:
        session.manifest = new
    return Adopting(session, found, why, old, text, switched=switched)


def renew_bundle(session: Session, environment: EnvironmentName) -> None:
    """Seal the bundle of *environment* for the manifest that is there now."""
    session.manifest, session.manifest_stamp = read_manifest(session.paths)
    refresh_bundle(session, environment)


def _read(session: Session) -> str:
    with session.paths.manifest.open("rb") as file:
        return file.read(MAX_MANIFEST_BYTES).decode("utf-8")
