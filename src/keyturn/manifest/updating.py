"""
What an `.env` file declares and the manifest does not, put into the manifest.

New variables are drafted as in a first manifest and put into the one that is there;
nothing that stands in it is touched, but for a setting whose real value may be a secret.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from keyturn.core.ids import EnvironmentName, SecretName, VariableName
from keyturn.errors import ManifestError, Problem, UsageError
from keyturn.manifest import _toml
from keyturn.manifest._harmless import may_be_secret
from keyturn.manifest._lines import LineIndex
from keyturn.manifest.drafting import DraftedSecret, ReviewNote, Work
from keyturn.manifest.edit import add_lines, remove
from keyturn.manifest.envfile import EnvEntry, EnvFile
from keyturn.manifest.loading import load
from keyturn.manifest.model import Manifest
from keyturn.manifest.recognise import Recognised

__all__ = ["Adoption", "Update", "adopt", "may_become_setting", "update"]


@dataclass(frozen=True, slots=True)
class Update:
    """
    A manifest with what is new in an example.

    Args:
        text: The content of `keyturn.toml`; as it was where nothing is new.
        review: Everything that is marked `# review` in it, and what was not added.
        findings: New values in the example that look real, by line; never quoted.
        secrets: Those that were added.
        settings: Those that were added.
        absent: Variables that the manifest declares and the example does not.
    """

    text: str
    review: tuple[ReviewNote, ...]
    findings: tuple[Problem, ...]
    secrets: tuple[DraftedSecret, ...]
    settings: tuple[VariableName, ...]
    absent: tuple[VariableName, ...]


@dataclass(frozen=True, slots=True)
class Adoption:
    """
    A manifest that declares every variable of a real `.env`.

    Args:
        text: The content of `keyturn.toml`; as it was where nothing is new.
        review: What could not be declared, and what a person should look at.
        secrets: Those that were added.
        settings: Those that were added; their names and values are clearly harmless.
        moved: Variables that were settings and are secrets now.
        lines: What has come to stand in the manifest, without a value, for a person
            who is to write it.
    """

    text: str
    review: tuple[ReviewNote, ...]
    secrets: tuple[DraftedSecret, ...]
    settings: tuple[VariableName, ...]
    moved: tuple[VariableName, ...]
    lines: tuple[str, ...]


def adopt(text: str, envfile: EnvFile, environment: EnvironmentName) -> Adoption:
    """
    Return the manifest *text* with all that the real *envfile* sets and it does not declare.

    What is in doubt becomes a secret; so does a setting whose value in *envfile* may be
    one, unless other environments have values of their own there, which would be lost.

    Raises:
        ManifestError: *text* is wrong before anything is added.
        UsageError: What is new cannot be put into it.
    """
    manifest = load(text.encode("utf-8"), file="keyturn.toml")
    moved: list[VariableName] = []
    edited = text
    for entry in envfile.live:
        if entry.name in manifest.config and _turns_secret(entry, manifest, environment):
            shorter = _without(edited, entry.name)
            if shorter is not None:
                edited = shorter
                moved.append(entry.name)
    declared = _declared(load(edited.encode("utf-8"), file="keyturn.toml"))
    fresh = tuple(entry for entry in envfile.live if entry.name not in declared)
    done = update(edited, EnvFile(envfile.file, fresh, ()), example=False)
    return Adoption(
        text=done.text,
        review=done.review,
        secrets=done.secrets,
        settings=done.settings,
        moved=tuple(moved),
        lines=tuple(_added(done)),
    )


def may_become_setting(manifest: Manifest, name: VariableName, text: str) -> bool:
    """Tell whether the declared setting *name* may be given the real value *text*."""
    # Environments may differ: a text of its own in one of them is a person's word.
    declared = max(manifest.config[name].values(), key=len, default="")
    return not may_be_secret(name, text, declared)


def _turns_secret(entry: EnvEntry, manifest: Manifest, environment: EnvironmentName) -> bool:
    texts = manifest.config[entry.name]
    try:
        # Only to tell a secret from a setting; it is written nowhere.
        text = entry.value.reveal_text()
    except ValueError:
        return True
    if texts.get(environment) == text or may_become_setting(manifest, entry.name, text):
        return False
    return len(set(texts.values())) <= 1


def _without(text: str, name: VariableName) -> str | None:
    """Return *text* without the setting *name*; None where something else needs it."""
    try:
        shorter = remove(text, ("config", name))
        load(shorter.encode("utf-8"), file="keyturn.toml")
    except (ManifestError, UsageError):
        return None
    # Where it stood, so that the comments above it do not speak of the next one.
    lines = text.split("\n")
    at = LineIndex.scan(text).lines.get(("config", name), 0) - 1
    if at >= 0:
        ending = "\r" if lines[at].endswith("\r") else ""
        lines[at] = f"# {name} is a secret: see [secrets]{ending}"
        if _reads_as(lines, shorter):
            return "\n".join(lines)
    return shorter


def _reads_as(lines: list[str], text: str) -> bool:
    try:
        found = tomllib.loads("\n".join(lines).removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        return False
    return found == tomllib.loads(text.removeprefix("\ufeff"))


def _added(done: Update) -> Iterator[str]:
    if done.settings:
        yield "[config]"
        yield from (f'{name} = "..."' for name in done.settings)
    declared = tomllib.loads(done.text.removeprefix("\ufeff")).get("secrets", {})
    for one in done.secrets:
        table = declared[one.name]
        yield f"[secrets.{one.name}]"
        yield f'kind = "{table["kind"]}"'
        if "variable" in table:
            yield f'variable = "{table["variable"]}"'
        else:
            yield f"fields = {_toml.inline_table(table['fields'])}"


def update(text: str, envfile: EnvFile, *, example: bool = True) -> Update:
    """
    Return the manifest *text* with the variables of *envfile* that it does not declare.

    What is commented out in *envfile* is added where it is a secret, as one that is not
    required, and passed over where it is a setting.

    Args:
        example: As for `draft`.

    Raises:
        ManifestError: *text* is wrong before anything is added.
        UsageError: What is new cannot be put into it.
    """
    manifest = load(text.encode("utf-8"), file="keyturn.toml")
    declared = _declared(manifest)
    work = Work(envfile, str(manifest.project.name), example)
    work.sort_out()
    work.recognised = tuple(_new_secrets(work, manifest, declared))
    new = [entry for entry in work.settings if _is_new(entry, declared)]
    # What a drafted target may refer to: settings that are there, or will be.
    work.settings = [*new, *(e for e in work.settings if e.name in manifest.config)]
    for entry, reason in work.left_out:
        if entry.name not in declared:
            work.review.append(ReviewNote(entry.name, f"left out: {reason}"))
    settings = [line for entry in new for line in work.setting(entry)]
    edited = _edited(text, settings, work.secrets(), envfile.file)
    if edited != text:
        work.review += _unused(load(edited.encode("utf-8"), file="keyturn.toml"), work.drafted)
    present = {entry.name for entry in envfile.entries}
    return Update(
        text=edited,
        review=tuple(work.review),
        findings=tuple(p for p in work.findings() if p.key not in declared) if example else (),
        secrets=tuple(work.drafted),
        settings=tuple(entry.name for entry in new),
        absent=tuple(sorted(declared - present)),
    )


def _declared(manifest: Manifest) -> set[VariableName]:
    return {name for secret in manifest.secrets.values() for name in secret.variables} | set(
        manifest.config
    )


def _is_new(entry: EnvEntry, declared: set[VariableName]) -> bool:
    return entry.name not in declared and not entry.commented_out


def _new_secrets(
    work: Work, manifest: Manifest, declared: set[VariableName]
) -> Iterable[Recognised]:
    """Yield the secrets of which nothing is declared, each under a name that is free."""
    taken = {str(name) for name in manifest.secrets}
    for one in work.recognised:
        names = [entry.name for entry in one.fields.values()]
        known = [name for name in names if name in declared]
        if known:
            work.review += [
                ReviewNote(name, f"not added: it belongs to `{known[0]}`, so add it there")
                for name in names
                if name not in declared
            ]
            continue
        name, number = str(one.name), 1
        while name in taken:
            number += 1
            name = f"{one.name}-{number}"
        taken.add(name)
        yield replace(one, name=SecretName(name))


def _edited(text: str, settings: list[str], secrets: list[str], file: str) -> str:
    if not settings and not secrets:
        return text
    edited = add_lines(text, settings=settings, tables=secrets)
    try:
        load(edited.encode("utf-8"), file="keyturn.toml")
    except ManifestError as error:
        raise UsageError(
            f"what is new in `{file}` does not fit into keyturn.toml: {error.problems[0].message}",
            hint="add it by hand; nothing was changed",
        ) from error
    return edited


def _unused(manifest: Manifest, drafted: Iterable[DraftedSecret]) -> list[ReviewNote]:
    """Return a note for each new secret that no consumer is given."""
    used = {
        name
        for consumers in manifest.resolved_consumers.values()
        for consumer in consumers.values()
        for name in consumer.secrets
    }
    return [
        ReviewNote(one.name, "no consumer is given it: add it to the `secrets` of one")
        for one in drafted
        if one.name not in used
    ]
