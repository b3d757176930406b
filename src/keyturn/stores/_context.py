"""What an outside store is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, VariableName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError
from keyturn.manifest import LiveKeys, StoreSettings
from keyturn.stores._place import Place, plain_key

__all__ = ["StoreContext"]


@dataclass(frozen=True, slots=True)
class StoreContext:
    """
    What an outside store is built from.

    Args:
        settings: As the manifest has them.
        project: The project's name.
        folder: The project's folder; paths of the manifest are taken from it.
        state: Keyturn's own folder in it.
        variable: The variable of a field, where it has one.
        facts: What people should see beside a secret at the vendor: owner, purpose.
        ask: Asks the person at the terminal, without echo.
        keep: Returns a sealed place of Keyturn's own for what cannot be read back.
    """

    settings: StoreSettings
    project: str
    folder: Path
    state: Path
    clock: Clock
    entropy: Entropy
    variable: Callable[[SecretRef, FieldName], VariableName | None]
    facts: Callable[[SecretRef], Mapping[str, str]]
    ask: Callable[[str], SecretValue]
    keep: Callable[[EnvironmentName], Place]

    def text(self, key: str) -> str | None:
        """Return the text that the manifest gives under *key*."""
        found = self.settings.options.get(key)
        return found if isinstance(found, str) else None

    def number(self, key: str) -> int | None:
        """Return the number that the manifest gives under *key*."""
        found = self.settings.options.get(key)
        return found if isinstance(found, int) else None

    def filled(self, pattern: str, environment: EnvironmentName) -> str:
        """Return *pattern* with `{project}` and `{environment}` filled in."""
        return pattern.replace("{project}", self.project).replace("{environment}", environment)

    def live_key(self, environment: EnvironmentName, name: SecretName, field: FieldName) -> str:
        """Return what applications call *field*: its variable, or the usual name."""
        if self.settings.keys is LiveKeys.VARIABLES:
            variable = self.variable(SecretRef(environment, name), field)
            return variable or plain_key(name, field).upper()
        return plain_key(name, field)

    def file(self, pattern: str, environment: EnvironmentName) -> Path:
        """
        Return the file of *environment* that *pattern* names, taken from the project.

        Raises:
            UsageError: It leaves the project.
        """
        path = Path(self.filled(pattern, environment))
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(
                f"the path `{pattern}` of the store `{self.settings.name}` leaves the project",
                hint="write one from keyturn.toml's own folder, without `..`",
                code="store.path",
            )
        return self.folder / path

    def aside_file(self, environment: EnvironmentName, ending: str) -> Path:
        """Return the file in Keyturn's folder for what is kept aside."""
        return self.state / "stores" / f"{self.settings.name}.{environment}{ending}"
