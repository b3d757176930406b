"""Each environment's view: overrides applied, settings filled in, and what then disagrees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from keyturn.core.ids import (
    ConsumerName,
    EnvironmentName,
    FieldName,
    SecretName,
    VariableName,
)
from keyturn.manifest import _read
from keyturn.manifest._faults import Faults, nearest
from keyturn.manifest._lines import Path
from keyturn.manifest._secrets import read_settings
from keyturn.manifest.consumers import (
    ComposeReload,
    Consumer,
    HttpReload,
    KubernetesReload,
    Reload,
    SignalReload,
    SwarmReload,
    SystemdReload,
)
from keyturn.manifest.kinds import Strategy
from keyturn.manifest.model import (
    Secret,
    TargetValue,
)
from keyturn.manifest.targets import COMMAND_KEYS, SECRET_KEYS, target_spec

__all__ = ["Scope"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_URL_HOST = re.compile(r"https?://(\[[^\]]*\]|[^/:?#]*)")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_LAST_PORT = 65_535
# As Kubernetes and Swarm have them.
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL, re.ASCII)
_WORKLOAD = re.compile(rf"{_LABEL}(\.{_LABEL}){{0,3}}", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """
    One environment, while its view is made.

    Args:
        declared: Every secret that was declared well enough to be built.
        tables: The checked tables of all secrets, for their overrides and targets.
        config: The environment's settings.
    """

    environment: EnvironmentName
    declared: Mapping[SecretName, Secret]
    tables: Mapping[str, Mapping[str, object]]
    config: Mapping[VariableName, str]
    faults: Faults

    def secrets(self) -> dict[SecretName, Secret]:
        """Return the environment's secrets, and tell every fault that shows only here."""
        resolved = {
            name: self._secret(secret)
            for name, secret in self.declared.items()
            if secret.is_in(self.environment)
        }
        self._check_dependencies(resolved)
        self._check_variables(resolved)
        return resolved

    def consumers(self, consumers: Mapping[ConsumerName, Consumer]) -> dict[ConsumerName, Consumer]:
        """Return the environment's consumers, and tell where they stand in each other's way."""
        resolved = {name: self._consumer(consumer) for name, consumer in consumers.items()}
        places: list[tuple[ConsumerName, tuple[str, ...]]] = []
        for name, consumer in resolved.items():
            if consumer.render is None:
                continue
            here = tuple(part for part in consumer.render.path.split("/") if part not in {"", "."})
            for other, there in places:
                self._check_apart(name, here, other, there)
            places.append((name, here))
        return resolved

    def _check_apart(
        self,
        name: ConsumerName,
        here: tuple[str, ...],
        other: ConsumerName,
        there: tuple[str, ...],
    ) -> None:
        shorter = min(len(here), len(there))
        if here[:shorter] != there[:shorter]:
            return
        text, other_text = "/".join(here), "/".join(there)
        if here == there:
            message = f"`{text}` is the file of the consumer `{other}` already"
        elif shorter == len(there):
            message = f"`{text}` lies in `{other_text}`, which the consumer `{other}` is given"
        else:
            message = f"`{other_text}`, which the consumer `{other}` is given, lies in `{text}`"
        # Without the environment: the paths are mostly the same in all, and told once.
        self.faults.add(
            ("consumers", name, "render", "path"),
            message,
            f"give `{name}` and `{other}` each a path of its own",
        )

    def _consumer(self, consumer: Consumer) -> Consumer:
        """Return *consumer* with its `${NAME}`s filled in and its secrets narrowed down."""
        path: Path = ("consumers", consumer.name)
        present = tuple(
            name
            for name in consumer.secrets
            if name in self.declared and self.declared[name].is_in(self.environment)
        )
        render, health = consumer.render, consumer.health
        if render is not None:
            where = self._fill(render.path, (*path, "render", "path"))
            self._check_inside(where, (*path, "render", "path"))
            render = replace(render, path=where)
        if health is not None:
            url = self._fill(health.url, (*path, "health", "url"))
            self._check_url(url, (*path, "health", "url"))
            health = replace(health, url=url)
        reload = self._reload(consumer.reload, (*path, "reload"))
        return replace(consumer, secrets=present, render=render, reload=reload, health=health)

    def _secret(self, secret: Secret) -> Secret:
        table = self.tables[secret.name]
        path: Path = ("secrets", secret.name)
        target = dict(_read.table(table, "target") or {})
        override = _read.tables(table, "environments").get(self.environment)
        if override is None and not target:
            return secret
        if override is not None:
            path = (*path, "environments", self.environment)
            settings = read_settings(override, secret.spec, path, self.faults)
            target.update(settings.target or {})
            secret = replace(
                secret,
                priority=settings.priority or secret.priority,
                max_age=secret.max_age if settings.max_age is None else settings.max_age,
                grace=secret.grace if settings.grace is None else settings.grace,
                strategy=settings.strategy or secret.strategy,
                required=secret.required if settings.required is None else settings.required,
                generate=settings.generate or secret.generate,
            )
        return self._with_target(secret, target) if target else secret

    def _with_target(self, secret: Secret, raw: Mapping[str, object]) -> Secret:
        path: Path = ("secrets", secret.name, "target")
        target: dict[str, TargetValue] = {}
        for key, value in raw.items():
            if isinstance(value, list) and key in COMMAND_KEYS:
                target[key] = tuple(str(item) for item in value)
            elif isinstance(value, list):
                target[key] = tuple(self._fill(str(item), (*path, key)) for item in value)
            elif isinstance(value, dict):
                target[key] = MappingProxyType(value)
            elif isinstance(value, int):
                target[key] = value
            else:
                target[key] = self._fill(str(value), (*path, key))
        self._check_target(target, secret, path)
        depends_on = secret.depends_on
        for key in SECRET_KEYS:
            name = target.get(key)
            if isinstance(name, str) and name not in depends_on:
                depends_on = (*depends_on, SecretName(name))
        return replace(secret, target=MappingProxyType(target), depends_on=depends_on)

    def _check_target(self, target: dict[str, TargetValue], secret: Secret, path: Path) -> None:
        port = target.get("port")
        if isinstance(port, str) and not _REFERENCE.search(port):
            if port.isdecimal() and 0 < int(port[:6]) <= _LAST_PORT:
                target["port"] = int(port)
            else:
                self._fault((*path, "port"), "is not a port", "write a number from 1 to 65535")
        sslmode = target.get("sslmode")
        if (
            isinstance(sslmode, str)
            and not _REFERENCE.search(sslmode)
            and sslmode not in _SSL_MODES
        ):
            listed = ", ".join(f"`{mode}`" for mode in _SSL_MODES)
            self._fault((*path, "sslmode"), "is not a TLS mode", f"write one of {listed}")
        for key in target_spec(secret.kind).required:
            if key not in target:
                self._fault(path, f"lacks `{key}`", f"add `{key}`")
        if secret.strategy is Strategy.TWO_LOGINS and "admin" not in target:
            self._fault(
                path,
                "`two-logins` needs `admin`: the secret that may administer logins",
                'add `admin = "..."`, or `strategy = "in-place"` to the secret',
            )
        self._check_admin(target.get("admin"), secret, (*path, "admin"))

    def _check_admin(self, admin: TargetValue | None, secret: Secret, path: Path) -> None:
        if not isinstance(admin, str):
            return
        if admin == secret.name:
            self.faults.add(path, "a secret cannot administer itself", "name another secret")
            return
        other = self.declared.get(SecretName(admin))
        wanted = target_spec(secret.kind).admin_fields
        if other is not None and not any(fields <= other.fields.keys() for fields in wanted):
            listed = " or ".join(
                " and ".join(f"`{field}`" for field in sorted(fields, reverse=True))
                for fields in wanted
            )
            message = f"`{admin}` has no {listed}"
            self.faults.add(path, message, "name a secret that has these fields")

    def _check_dependencies(self, resolved: Mapping[SecretName, Secret]) -> None:
        for secret in resolved.values():
            for name in secret.depends_on:
                path = self._dependency_path(secret, name)
                if name not in self.tables:
                    fix = nearest(name, self.tables, otherwise=f"add `[secrets.{name}]`")
                    self.faults.add(path, f"there is no secret `{name}`", fix)
                elif name in self.declared and name not in resolved:
                    fix = f"add `{self.environment}` to its `only`"
                    self._fault(path, f"`{name}` does not exist there", fix)
        for cycle in _cycles(resolved):
            names = " -> ".join(f"`{name}`" for name in (*cycle, cycle[0]))
            last = resolved[cycle[-1]]
            path = self._dependency_path(last, cycle[0])
            self.faults.add(path, f"secrets depend on each other: {names}", "remove one link")

    def _dependency_path(self, secret: Secret, name: SecretName) -> Path:
        written = _read.texts(self.tables[secret.name], "depends_on") or ()
        if name in written:
            return ("secrets", secret.name, "depends_on", written.index(name))
        key = next((key for key in SECRET_KEYS if secret.target.get(key) == name), "admin")
        return ("secrets", secret.name, "target", key)

    def _check_variables(self, resolved: Mapping[SecretName, Secret]) -> None:
        owners: dict[str, str] = {}
        for secret in resolved.values():
            for field, variable in secret.fields.items():
                if variable is None:
                    continue
                path = self._variable_path(secret.name, field)
                here = f"`{secret.name}.{field}`"
                taken = owners.setdefault(variable, here)
                if taken is not here:
                    message = f"`{variable}` is the variable of {taken} already"
                    self._fault(path, message, "give each its own variable")
                elif variable in self.config:
                    message = f"`{variable}` is a plain setting in `[config]` too"
                    self._fault(path, message, "keep it here and take it out of `[config]`")

    def _variable_path(self, name: SecretName, field: FieldName) -> Path:
        if "variable" in self.tables[name]:
            return ("secrets", name, "variable")
        return ("secrets", name, "fields", field)

    def _fill(self, text: str, path: Path) -> str:
        """Return *text* with each `${NAME}` replaced; one without a value is a fault."""
        if "${" not in text:
            return text

        def setting(match: re.Match[str]) -> str:
            name = VariableName(match[1])
            found = self.config.get(name)
            if found:
                return found
            if any(name in secret.variables for secret in self.declared.values()):
                message = f"`{name}` belongs to a secret, and only settings may stand here"
                self._fault(path, message, "write the text itself, or move it to `[config]`")
            else:
                message = f"`${{{name}}}` has no value"
                self._fault(path, message, f"set `{name}` in `[config]`")
            return match[0]

        return _REFERENCE.sub(setting, text)

    def _reload(self, reload: Reload | None, path: Path) -> Reload | None:
        match reload:
            case SignalReload():
                return replace(reload, pid_file=self._fill(reload.pid_file, (*path, "pid_file")))
            case SystemdReload():
                return replace(reload, unit=self._fill(reload.unit, (*path, "systemd")))
            case ComposeReload():
                service = self._fill(reload.service, (*path, "compose"))
                file = self._fill(reload.file, (*path, "file")) if reload.file else None
                return replace(reload, service=service, file=file)
            case HttpReload():
                url = self._fill(reload.url, (*path, "http"))
                self._check_url(url, (*path, "http"))
                return replace(reload, url=url)
            case KubernetesReload() | SwarmReload():
                return self._elsewhere(reload, path)
            case _:
                # A command is run as it stands: `${...}` may be its own language.
                return reload

    def _elsewhere(self, reload: KubernetesReload | SwarmReload, path: Path) -> Reload:
        if isinstance(reload, SwarmReload):
            services = tuple(
                self._name(name, (*path, "swarm", place), _SERVICE)
                for place, name in enumerate(reload.services)
            )
            return replace(reload, services=services)

        def filled(key: str, text: str | None) -> str | None:
            return text and self._fill(text, (*path, key))

        namespace = reload.namespace
        return replace(
            reload,
            name=self._name(reload.name, (*path, "kubernetes"), _WORKLOAD),
            namespace=namespace and self._name(namespace, (*path, "namespace"), _NAMESPACE),
            context=filled("context", reload.context),
            kubeconfig=filled("kubeconfig", reload.kubeconfig),
        )

    def _name(self, text: str, path: Path, form: re.Pattern[str]) -> str:
        found = self._fill(text, path)
        if not _REFERENCE.search(found) and not form.fullmatch(found):
            self._fault(path, "is not a name that can be there", "write it as the other side does")
        return found

    def _check_inside(self, where: str, path: Path) -> None:
        parts = where.split("/")
        if where.startswith(("/", "~")) or ".." in parts or where.endswith("/") or "\\" in where:
            message = "leads out of the project folder, or is no file"
            self._fault(path, message, 'write a path such as "run/backend.env"')
        elif parts[0] in {".keyturn", ".git"}:
            self._fault(path, f"`{parts[0]}` is not for rendered files", "choose another folder")

    def _check_url(self, url: str, path: Path) -> None:
        if _REFERENCE.search(url):
            return
        match = _URL_HOST.match(url)
        host = match[1] if match else ""
        authority = url.partition("://")[2].partition("/")[0]
        if not host or "@" in authority:
            self._fault(path, "must have a host and no user name", "write `http://host:port/path`")
        elif url.startswith("http:") and not _LOOPBACK.fullmatch(host):
            self._fault(
                path, "is plain HTTP to another machine", "write `https://`, or a loopback address"
            )

    def _fault(self, path: Path, message: str, fix: str) -> None:
        """Tell a fault that may differ from one environment to the next."""
        self.faults.add(path, f"{message} (in `{self.environment}`)", fix)


def _cycles(secrets: Mapping[SecretName, Secret]) -> list[tuple[SecretName, ...]]:
    """Return one cycle for each group of secrets that depend on each other, without recursion."""
    cycles: list[tuple[SecretName, ...]] = []
    done: set[SecretName] = set()
    for first in secrets:
        trail: dict[SecretName, list[SecretName]] = {}
        if first not in done:
            trail[first] = _links(secrets, first)
        while trail:
            name = next(reversed(trail))
            if not trail[name]:
                done.add(trail.popitem()[0])
                continue
            following = trail[name].pop()
            if following in trail:
                names = list(trail)
                cycles.append(tuple(names[names.index(following) :]))
            elif following not in done:
                trail[following] = _links(secrets, following)
    return cycles


def _links(secrets: Mapping[SecretName, Secret], name: SecretName) -> list[SecretName]:
    return [other for other in reversed(secrets[name].depends_on) if other in secrets]
