"""
Reading a manifest: bytes in, a checked `Manifest` out, or every fault at once.

The happy path parses with `tomllib` and looks at no line numbers; those are found
only when there is something to point at. A manifest of a thousand secrets takes some
tens of milliseconds, most of them in `tomllib`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

from keyturn.core.ids import EnvironmentName, SecretName, VariableName
from keyturn.manifest import _build, _read
from keyturn.manifest._faults import MAX_FAULTS, Faults, TooManyFaults, nearest
from keyturn.manifest._lines import LineIndex, Path
from keyturn.manifest._reserved import is_keyturn_variable, is_loader_variable
from keyturn.manifest._resolve import Scope
from keyturn.manifest._secrets import build_secret
from keyturn.manifest._source import decode, parse
from keyturn.manifest.keys import manifest_table
from keyturn.manifest.kinds import SecretKind
from keyturn.manifest.model import Environment, Manifest, Project, Secret
from keyturn.manifest.shapes import check
from keyturn.manifest.strength import find_values
from keyturn.manifest.targets import SECRET_KEYS, target_spec

__all__ = ["load"]


def load(text: bytes, *, file: str) -> Manifest:
    """
    Return the manifest that *text* says.

    Args:
        text: The content of `keyturn.toml`.
        file: Its name, for messages.

    Raises:
        ManifestError: It cannot be read, or something in it is wrong. Every fault is
            there, in file order, with line, key and fix; none quotes a value.
    """
    source = decode(text, file)
    document = parse(source, file)
    faults = Faults()
    try:
        manifest = _load(source, document, faults)
    except TooManyFaults:
        faults.raise_if_any(source, file)
        raise
    faults.raise_if_any(source, file)
    warnings = faults.found_warnings(source, file)
    return replace(manifest, warnings=warnings) if warnings else manifest


def _load(source: str, raw: Mapping[str, object], faults: Faults) -> Manifest:
    _refuse_values(source, faults)
    document = check(manifest_table(), raw, faults)
    stores = _build.build_stores(document, faults)
    environments = _build.build_environments(document, stores, faults)
    config = _build.build_config(document, environments, faults)
    project = _build.build_project(document)
    tables = _read.tables(document, "secrets")
    secrets = _secrets(tables, project, environments, faults)
    declared = _read.table(raw, "secrets") or {}
    swarm = _build.may_have_swarm(document, stores, environments)
    consumers = _build.build_consumers(document, declared, _admins(tables), faults, swarm=swarm)
    resolved = {}
    resolved_consumers = {}
    for name in environments:
        settings = {key: values[name] for key, values in config.items() if name in values}
        scope = Scope(name, secrets, tables, settings, faults)
        resolved[name] = MappingProxyType(scope.secrets())
        resolved_consumers[name] = MappingProxyType(scope.consumers(consumers))
    return Manifest(
        project=project,
        contacts=_build.build_contacts(document, secrets, faults),
        environments=MappingProxyType(environments),
        stores=MappingProxyType(stores),
        config=MappingProxyType({key: MappingProxyType(each) for key, each in config.items()}),
        consumers=MappingProxyType(consumers),
        secrets=MappingProxyType(secrets),
        resolved=MappingProxyType(resolved),
        resolved_consumers=MappingProxyType(resolved_consumers),
        schedule=_build.build_schedule(document, faults),
        backup=_build.build_backup(document),
    )


def _refuse_values(source: str, faults: Faults) -> None:
    """Tell everything in the text, comments too, that has the shape of a real value."""
    index: LineIndex | None = None
    for offset, what in islice(find_values(source), MAX_FAULTS):
        index = index or LineIndex.scan(source)
        line = source.count("\n", 0, offset) + 1
        start = source.rfind("\n", 0, offset) + 1
        if source[start:offset].lstrip().startswith("#"):
            path: Path = ()
            message = f"a comment holds {what}; the manifest holds no value, ever"
        else:
            path = index.key_at(line)
            message = f"holds {what}; the manifest holds no value, ever"
        faults.add(
            path,
            message,
            "take it out and store it with `keyturn set`; if it was ever committed, change it "
            "where it is used",
            line=line,
        )


def _secrets(
    tables: Mapping[str, Mapping[str, object]],
    project: Project,
    environments: Mapping[EnvironmentName, Environment],
    faults: Faults,
) -> dict[SecretName, Secret]:
    secrets: dict[SecretName, Secret] = {}
    for name, table in tables.items():
        secret = build_secret(name, table, project.owner, faults)
        if secret is None:
            continue
        secrets[secret.name] = secret
        _check_environments(secret, table, environments, faults)
        for variable, key in secret.variables.items():
            own = ("variable",) if "variable" in table else ("fields", key)
            _check_variable(("secrets", name, *own), variable, faults)
    return secrets


def _check_environments(
    secret: Secret,
    table: Mapping[str, object],
    environments: Mapping[EnvironmentName, Environment],
    faults: Faults,
) -> None:
    path: Path = ("secrets", secret.name)
    for position, name in enumerate(secret.only or ()):
        if name not in environments:
            fix = nearest(name, environments, otherwise=f"add `[environments.{name}]`")
            faults.add((*path, "only", position), f"there is no environment `{name}`", fix)
    for key in _read.tables(table, "environments"):
        here = (*path, "environments", key)
        if EnvironmentName(key) not in environments:
            fix = nearest(key, environments, otherwise=f"add `[environments.{key}]`")
            faults.add(here, f"there is no environment `{key}`", fix)
        elif not secret.is_in(EnvironmentName(key)):
            faults.add(here, f"`only` keeps it out of `{key}`", f"add `{key}` to `only`")


def _check_variable(path: Path, variable: VariableName, faults: Faults) -> None:
    if is_keyturn_variable(variable):
        message = f"`{variable}`: names that start with `KEYTURN_` are Keyturn's own"
        faults.add(path, message, "rename it")
    elif is_loader_variable(variable):
        message = f"`{variable}` decides what programs run, so no stored value may set it"
        faults.add(path, message, "choose another variable name")


def _admins(tables: Mapping[str, Mapping[str, object]]) -> frozenset[str]:
    """Return every secret that administers another and is not for applications."""
    found: set[str] = set()
    for table in tables.values():
        kind = _read.text(table, "kind")
        if kind is not None and target_spec(SecretKind(kind)).shares_admin:
            continue
        overrides = _read.tables(table, "environments").values()
        for holder in (table, *overrides):
            target = _read.table(holder, "target") or {}
            found.update(
                name for key in SECRET_KEYS if (name := _read.text(target, key)) is not None
            )
    return frozenset(found)
