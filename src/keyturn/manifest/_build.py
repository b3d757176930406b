"""From a checked document to everything but the secrets: each table to its type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from keyturn.core.ids import ConsumerName, EnvironmentName, SecretName, StoreName, VariableName
from keyturn.manifest import _read
from keyturn.manifest._faults import Faults, nearest
from keyturn.manifest._lines import Path
from keyturn.manifest._reserved import is_keyturn_variable
from keyturn.manifest.consumers import (
    CommandReload,
    ComposeReload,
    Consumer,
    Health,
    HttpReload,
    KubernetesReload,
    Reload,
    Render,
    RenderFormat,
    SignalReload,
    SwarmReload,
    SystemdAction,
    SystemdReload,
    Workload,
)
from keyturn.manifest.durations import parse_duration
from keyturn.manifest.model import (
    BackupSettings,
    Contacts,
    Environment,
    Project,
    ScheduleSettings,
    Secret,
)
from keyturn.manifest.stores import StoreKind, StoreSettings, build_store
from keyturn.manifest.strength import holds_value
from keyturn.manifest.windows import Window, is_timezone, parse_window

__all__ = [
    "build_backup",
    "build_config",
    "build_consumers",
    "build_contacts",
    "build_environments",
    "build_project",
    "build_schedule",
    "build_stores",
    "may_have_swarm",
]

_DEFAULT = "default"
_IMPLICIT_STORE = StoreName("local")
# Mode bits that would let strangers at a rendered file, or run it.
_FORBIDDEN_MODE = 0o117


def build_project(document: Mapping[str, object]) -> Project:
    """Return `[project]`."""
    table = _read.table(document, "project") or {}
    return Project(
        name=_read.text(table, "name") or "",
        owner=_read.text(table, "owner") or None,
        description=_read.text(table, "description") or "",
    )


def build_schedule(document: Mapping[str, object], faults: Faults) -> ScheduleSettings:
    """Return `[schedule]`."""
    table = _read.table(document, "schedule") or {}
    default = ScheduleSettings()
    distance = parse_duration(_read.text(table, "pair_distance") or "1d")
    if distance is None:
        path: Path = ("schedule", "pair_distance")
        faults.add(path, "is longer than ten years", "write a shorter one")
    percent = _read.number(table, "jitter_percent")
    return ScheduleSettings(
        jitter_percent=default.jitter_percent if percent is None else percent,
        pair_distance=distance or default.pair_distance,
    )


def build_backup(document: Mapping[str, object]) -> BackupSettings:
    """Return `[backup]`."""
    table = _read.table(document, "backup") or {}
    return BackupSettings(recipients=_read.texts(table, "recipients") or ())


def build_contacts(
    document: Mapping[str, object], secrets: Mapping[SecretName, Secret], faults: Faults
) -> Contacts:
    """Return `[contacts]`; the login of the mail server must be a declared secret."""
    table = _read.table(document, "contacts") or {}
    login = _read.text(table, "smtp_login")
    if login is not None and SecretName(login) not in secrets:
        path: Path = ("contacts", "smtp_login")
        fix = nearest(login, secrets, otherwise=f"add `[secrets.{login}]`")
        faults.add(path, f"there is no secret `{login}`", fix)
    _warn_of_credentials(table, faults)
    return Contacts(
        smtp=_read.text(table, "smtp"),
        smtp_login=None if login is None else SecretName(login),
        sender=_read.text(table, "sender"),
        security=_read.text(table, "security"),
        on_call=_read.text(table, "on_call"),
        users=_read.texts(table, "users") or (),
    )


# Addresses that tell where and hold nothing that lets anybody in.
_OPEN_SCHEMES = frozenset({"mailto", "http", "https", "json", "jsons", "xml", "xmls", "ntfy"})


def _warn_of_credentials(table: Mapping[str, object], faults: Faults) -> None:
    """Tell of contacts whose address is itself a credential, as those of most services are."""
    contacts: list[tuple[Path, str | None]] = [
        ((key,), _read.text(table, key)) for key in ("security", "on_call")
    ]
    contacts += [(("users", i), text) for i, text in enumerate(_read.texts(table, "users") or ())]
    for where, text in contacts:
        scheme = (text or "").partition(":")[0].lower()
        if text is None or scheme in _OPEN_SCHEMES or "${secret:" in text:
            continue
        faults.warn(
            ("contacts", *where),
            f"an address of `{scheme}` holds a credential",
            "put it into a secret and write `${secret:NAME.FIELD}` in its place",
        )


def build_stores(document: Mapping[str, object], faults: Faults) -> dict[StoreName, StoreSettings]:
    """Return `[stores]`; without any there is an embedded one called `local`."""
    if "stores" not in document:
        return {_IMPLICIT_STORE: StoreSettings(_IMPLICIT_STORE, StoreKind.EMBEDDED)}
    stores: dict[StoreName, StoreSettings] = {}
    for name, table in _read.tables(document, "stores").items():
        store = build_store(name, table, faults)
        if store is not None:
            stores[store.name] = store
    return stores


def may_have_swarm(
    document: Mapping[str, object],
    stores: Mapping[StoreName, StoreSettings],
    environments: Mapping[EnvironmentName, Environment],
) -> bool:
    """Tell whether an environment's store is a swarm, or is too faulty to tell."""
    if len(stores) < len(_read.tables(document, "stores")):
        return True
    used = {environment.store for environment in environments.values()}
    return any(each.kind is StoreKind.SWARM for each in stores.values() if each.name in used)


def build_environments(
    document: Mapping[str, object], stores: Mapping[StoreName, StoreSettings], faults: Faults
) -> dict[EnvironmentName, Environment]:
    """Return `[environments]`, each with a store that exists."""
    environments: dict[EnvironmentName, Environment] = {}
    # A store whose own table is faulty counts here: one fault is told once.
    declared = _read.tables(document, "stores").keys() | stores.keys()
    for name, table in _read.tables(document, "environments").items():
        path: Path = ("environments", name)
        if name == _DEFAULT:
            fix = "call it otherwise: `default` serves every environment not named in `[config]`"
            faults.add(path, "an environment cannot be called `default`", fix)
        store = _read.text(table, "store")
        if store is None and "store" not in table and len(declared) > 1:
            faults.add(path, "there are several stores and it names none", "add `store`")
        elif store is not None and store not in declared:
            fix = nearest(store, declared, otherwise=f"add `[stores.{store}]`")
            faults.add((*path, "store"), f"there is no store `{store}`", fix)
        chosen = StoreName(store) if store else next(iter(stores), _IMPLICIT_STORE)
        protected = _read.flag(table, "protected", default=False)
        environments[EnvironmentName(name)] = Environment(
            EnvironmentName(name),
            chosen,
            protected,
            freeze=_windows(table, path, faults),
            timezone=_timezone(table, path, faults),
            last_good=_last_good(table, path, faults),
        )
    return environments


def _windows(table: Mapping[str, object], path: Path, faults: Faults) -> tuple[Window, ...]:
    found = []
    for position, text in enumerate(_read.texts(table, "freeze") or ()):
        window = parse_window(text)
        if window is None:
            faults.add(
                (*path, "freeze", position),
                "is no window of time",
                'write "2026-12-20..2027-01-05" (the last day included) or "fri 16:00..mon 08:00"',
            )
        else:
            found.append(window)
    return tuple(found)


def _timezone(table: Mapping[str, object], path: Path, faults: Faults) -> str:
    name = _read.text(table, "timezone") or "UTC"
    if name != "UTC" and not is_timezone(name):
        faults.add(
            (*path, "timezone"),
            f"there is no time zone `{name}` on this machine",
            'write a name such as "Europe/Vienna", or install the package `tzdata`',
        )
        return "UTC"
    return name


def _last_good(table: Mapping[str, object], path: Path, faults: Faults) -> timedelta | None:
    text = _read.text(table, "last_good")
    length = None if text is None else parse_duration(text)
    if text is not None and length is None:
        faults.add((*path, "last_good"), "is longer than ten years", "write a shorter one")
    return length


def build_config(
    document: Mapping[str, object],
    environments: Mapping[EnvironmentName, Environment],
    faults: Faults,
) -> dict[VariableName, dict[EnvironmentName, str]]:
    """Return `[config]`: every setting's text in each environment that has one."""
    config: dict[VariableName, dict[EnvironmentName, str]] = {}
    for name, value in (_read.table(document, "config") or {}).items():
        path: Path = ("config", name)
        if is_keyturn_variable(name):
            faults.add(path, "names that start with `KEYTURN_` are Keyturn's own", "rename it")
        if isinstance(value, dict):
            config[VariableName(name)] = _per_environment(name, value, environments, faults)
        else:
            text = _setting(name, value, path, faults)
            config[VariableName(name)] = dict.fromkeys(environments, text)
    return config


def _per_environment(
    name: str,
    table: Mapping[str, object],
    environments: Mapping[EnvironmentName, Environment],
    faults: Faults,
) -> dict[EnvironmentName, str]:
    values: dict[EnvironmentName, str] = {}
    if _DEFAULT in table:
        text = _setting(name, table[_DEFAULT], ("config", name, _DEFAULT), faults)
        values = dict.fromkeys(environments, text)
    for key, value in table.items():
        path: Path = ("config", name, key)
        if key == _DEFAULT:
            continue
        if EnvironmentName(key) not in environments:
            names = (*environments, _DEFAULT)
            fix = nearest(key, names, otherwise=f"add `[environments.{key}]`")
            faults.add(path, f"there is no environment `{key}`", fix)
            continue
        values[EnvironmentName(key)] = _setting(name, value, path, faults)
    return values


def _setting(name: str, value: object, path: Path, faults: Faults) -> str:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    reason = holds_value(name, text)
    if reason is not None:
        faults.add(
            path,
            f"holds {reason}; the manifest holds no value, ever",
            "take it out, declare a secret with this variable and store it with `keyturn set`; "
            "if it was ever committed, change it where it is used",
        )
    return text


def build_consumers(
    document: Mapping[str, object],
    secrets: Mapping[str, object],
    admins: frozenset[str],
    faults: Faults,
    *,
    swarm: bool,
) -> dict[ConsumerName, Consumer]:
    """
    Return `[consumers]`.

    Args:
        secrets: Every declared name, faulty ones too.
        admins: The secrets that administer others; a `"*"` leaves them out.
        swarm: The versions of an environment may live in a swarm.
    """
    consumers: dict[ConsumerName, Consumer] = {}
    for name, table in _read.tables(document, "consumers").items():
        path: Path = ("consumers", name)
        wanted = _read.texts(table, "secrets")
        if wanted is None:
            wanted = tuple(n for n in secrets if n not in admins) if "secrets" in table else ()
        for position, secret in enumerate(wanted):
            if secret not in secrets:
                fix = nearest(secret, secrets, otherwise=f"add `[secrets.{secret}]`")
                where = (*path, "secrets", position)
                faults.add(where, f"there is no secret `{secret}`", fix)
        chosen = frozenset(wanted)
        consumers[ConsumerName(name)] = Consumer(
            name=ConsumerName(name),
            secrets=tuple(SecretName(n) for n in secrets if n in chosen),
            config=_read.flag(table, "config", default=True),
            render=_render(table, (*path, "render"), faults),
            reload=_reload(table, (*path, "reload"), faults, swarm=swarm),
            health=_health(table, (*path, "health"), faults),
        )
    return consumers


def _render(consumer: Mapping[str, object], path: Path, faults: Faults) -> Render | None:
    table = _read.table(consumer, "render")
    where = _read.text(table, "path") if table is not None else None
    if table is None or where is None:
        return None
    mode = int(_read.text(table, "mode") or "0600", 8)
    if mode & _FORBIDDEN_MODE or not mode & 0o400:
        message = "lets others read the file, lets somebody run it, or keeps its owner out"
        faults.add((*path, "mode"), message, 'write "0600", "0400", "0640" or "0440"')
    return Render(
        path=where,
        format=RenderFormat(_read.text(table, "format") or "dotenv"),
        mode=mode,
        owner=_read.text(table, "owner"),
    )


def _reload(
    consumer: Mapping[str, object], path: Path, faults: Faults, *, swarm: bool
) -> Reload | None:
    table = _read.table(consumer, "reload")
    if table is None:
        return None
    services = _read.texts(table, "swarm")
    if services:
        if not swarm:
            message = "no environment has its versions in a swarm, whose secrets services get"
            faults.add((*path, "swarm"), message, 'give one a store with `kind = "swarm"`')
        return SwarmReload(services)
    return _workload(table) or _on_machine(table)


def _workload(table: Mapping[str, object]) -> KubernetesReload | None:
    kind, slash, name = (_read.text(table, "kubernetes") or "").partition("/")
    if not slash:
        return None
    return KubernetesReload(
        Workload(kind),
        name,
        _read.text(table, "namespace"),
        _read.text(table, "context"),
        _read.text(table, "kubeconfig"),
    )


def _on_machine(table: Mapping[str, object]) -> Reload | None:
    signal, pid_file = _read.text(table, "signal"), _read.text(table, "pid_file")
    if signal is not None and pid_file is not None:
        return SignalReload(signal, pid_file)
    command = _read.texts(table, "command")
    if command:
        return CommandReload(command)
    unit = _read.text(table, "systemd")
    if unit is not None:
        return SystemdReload(unit, SystemdAction(_read.text(table, "action") or "reload"))
    service = _read.text(table, "compose")
    if service is not None:
        return ComposeReload(service, _read.text(table, "file"))
    url = _read.text(table, "http")
    return HttpReload(url) if url is not None else None


def _health(consumer: Mapping[str, object], path: Path, faults: Faults) -> Health | None:
    table = _read.table(consumer, "health")
    url = _read.text(table, "url") if table is not None else None
    if table is None or url is None:
        return None
    timeout = parse_duration(_read.text(table, "timeout") or "30s") or timedelta(0)
    if not timedelta(0) < timeout <= timedelta(hours=1):
        faults.add((*path, "timeout"), "must be from 1s to 1h", 'write "30s"')
    return Health(url=url, versions=_read.text(table, "versions"), timeout=timeout)
