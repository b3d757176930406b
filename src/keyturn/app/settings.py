"""Use case: take plain settings of a real .env into the manifest."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

from keyturn._internal import durable
from keyturn.app.session import MAX_MANIFEST_BYTES, Session
from keyturn.core.ids import EnvironmentName, VariableName
from keyturn.core.value import SecretValue
from keyturn.errors import ManifestError
from keyturn.manifest import load, looks_like_secret, may_become_setting, says_secret, set_key

__all__ = ["TakenSettings", "take_settings"]


@dataclass(slots=True)
class TakenSettings:
    """
    What became of the settings in a file.

    Args:
        written: Now in the manifest, for the environment.
        unchanged: The manifest said so already.
        refused: Look like secrets, or cannot be written down: the manifest still
            says what it said before.
    """

    written: list[VariableName] = field(default_factory=list)
    unchanged: list[VariableName] = field(default_factory=list)
    refused: list[VariableName] = field(default_factory=list)


def take_settings(
    session: Session,
    environment: EnvironmentName,
    given: Mapping[VariableName, SecretValue],
    *,
    write: bool,
) -> TakenSettings:
    """
    Make the manifest say what *given* says of the settings that it declares.

    Only *environment* changes: `PORT = "8080"` becomes `PORT = { default = "8080",
    development = "8001" }`. Comments and order are kept. What looks like a secret is
    left out, because a manifest is committed.

    Args:
        write: False tells what differs, and writes nothing. Where the manifest cannot be
            written it is as it was, and the session's notes say so.
    """
    declared = session.manifest.config_in(environment)
    with session.paths.manifest.open("rb") as file:
        text = file.read(MAX_MANIFEST_BYTES).decode("utf-8-sig")
    edited, taken = text, TakenSettings()
    for name, value in given.items():
        if name not in session.manifest.config:
            continue
        try:
            wanted = value.reveal_text()
        except ValueError:
            taken.refused.append(name)
            continue
        if declared.get(name) == wanted:
            taken.unchanged.append(name)
            continue
        secret = _secret(name, wanted) or not may_become_setting(session.manifest, name, wanted)
        candidate = None if secret else _with(edited, name, environment, wanted)
        if candidate is None or not write:
            taken.refused.append(name)
            continue
        edited = candidate
        taken.written.append(name)
    if edited != text:
        mode = session.paths.manifest.stat().st_mode & 0o777
        data = edited.encode("utf-8")
        try:
            durable.replace(session.paths.manifest, data, mode=mode, point="manifest")
        except OSError as error:
            session.notes.append(f"keyturn.toml cannot be written: {error.strerror}")
            taken.refused, taken.written = [*taken.refused, *taken.written], []
    return taken


def _secret(name: str, text: str) -> bool:
    return says_secret(name) or looks_like_secret(name, text) is not None


def _with(text: str, name: VariableName, environment: EnvironmentName, wanted: str) -> str | None:
    """Return the manifest *text* with the setting changed, or None where it would not load."""
    present = tomllib.loads(text)["config"][name]
    if isinstance(present, dict):
        value = {**present, environment: wanted}
    else:
        value = {"default": present, environment: wanted}
    try:
        candidate = set_key(text, ["config", name], value)
        load(candidate.encode("utf-8"), file="keyturn.toml")
    except ManifestError:
        return None
    return candidate
