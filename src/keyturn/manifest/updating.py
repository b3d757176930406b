"""
What a `.env.example` has come to declare since the manifest was drafted from it.

New variables are drafted as in a first manifest and put into the one that is there;
nothing that stands in it is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from keyturn.core.ids import SecretName, VariableName
from keyturn.errors import ManifestError, Problem, UsageError
from keyturn.manifest.drafting import DraftedSecret, ReviewNote, Work
from keyturn.manifest.edit import add_lines
from keyturn.manifest.envfile import EnvEntry, EnvFile
from keyturn.manifest.loading import load
from keyturn.manifest.model import Manifest
from keyturn.manifest.recognise import Recognised

__all__ = ["Update", "update"]


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
