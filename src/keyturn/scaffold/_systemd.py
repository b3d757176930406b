"""
`systemd/`: a weekly reminder, and the tick that does all that is due.

The units are as tight as what the manifest asks of them allows. Where a consumer's
reload or a file's owner needs more, that one thing is loosened, and the reason stands
beside it in the unit.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from keyturn.manifest import (
    CommandReload,
    ComposeReload,
    Consumer,
    Manifest,
    RenderFormat,
    Secret,
    SecretKind,
    StoreKind,
    SwarmReload,
    SystemdReload,
)
from keyturn.scaffold._model import Deployment, Family, File, header
from keyturn.scaffold._words import unit_path, unit_word

__all__ = ["files"]

# What ProtectHome= hides, beside the homes of sessions in `/run/user`.
_HOMES = frozenset({"home", "root"})
_OWN_PROGRAMS = frozenset({SecretKind.COMMAND, SecretKind.EXTERNAL})
_SYSTEM_CALLS = "~@privileged @resources"


def files(manifest: Manifest, deployment: Deployment) -> list[File]:
    """Return both services and their timers."""
    name = manifest.project.name
    reminder, tick = f"{name}-rotation-reminder", f"{name}-keyturn-tick"
    made = {
        f"{reminder}.service": _service(
            deployment,
            f"Reminder of the rotations of {name} that are due",
            "remind",
            _alone(deployment),
        ),
        f"{reminder}.timer": _timer(
            deployment,
            f"Weekly reminder of the rotations of {name}",
            ["OnCalendar=Mon *-*-* 09:00:00" + _zone(manifest, deployment), "AccuracySec=1min"],
        ),
        f"{tick}.service": _service(
            deployment,
            f"Rotations of {name} that are due",
            "tick",
            _rotating(manifest, deployment),
        ),
        f"{tick}.timer": _timer(
            deployment,
            f"Hourly look at the rotations of {name}",
            ["OnCalendar=hourly", "RandomizedDelaySec=10min", "FixedRandomDelay=true"],
        ),
    }
    return [File(Family.SYSTEMD, f"systemd/{path}", text) for path, text in made.items()]


def _zone(manifest: Manifest, deployment: Deployment) -> str:
    zone = manifest.environments[deployment.environment].timezone
    return "" if zone == "UTC" else f" {zone}"


def _timer(deployment: Deployment, what: str, when: list[str]) -> str:
    lines = [
        f"# {header(deployment, Family.SYSTEMD)}",
        "[Unit]",
        f"Description={what}",
        "Documentation=man:systemd.timer(5)",
        "",
        "[Timer]",
        *when,
        "# A run that was missed while the machine was off is made up for.",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def _service(deployment: Deployment, what: str, verb: str, sandbox: Iterator[str]) -> str:
    found = deployment
    failing = [] if found.on_failure is None else [f"OnFailure={unit_word(found.on_failure)}"]
    words = [found.program, verb, "--project-dir", found.folder, "-e", found.environment, "-q"]
    lines = [
        f"# {header(found, Family.SYSTEMD)}",
        "# What differs on a machine goes into a drop-in: systemctl edit NAME.service",
        "[Unit]",
        f"Description={what}",
        f"Documentation=file://{unit_path(found.folder)}/docs/credential-rotation-runbook.md",
        "Wants=network-online.target",
        "After=network-online.target",
        *failing,
        "",
        "[Service]",
        "Type=oneshot",
        f"User={found.user}",
        f"WorkingDirectory={unit_path(found.folder)}",
        f"Environment={unit_word(f'KEYTURN_HOME={found.key_home}')}",
        f"ExecStart={' '.join(unit_word(word) for word in words)}",
        "# Killed at any moment it loses nothing: the next run goes on from the journal.",
        "TimeoutStartSec=50min",
        "UMask=0077",
        "LimitCORE=0",
        "",
        *sandbox,
    ]
    return "\n".join(lines) + "\n"


def _alone(deployment: Deployment) -> Iterator[str]:
    """What a run needs that only reads, sends and remembers that it has sent."""
    yield from _common(deployment, [_state(deployment), deployment.key_home])
    yield "CapabilityBoundingSet="
    yield "AmbientCapabilities="
    yield "PrivateUsers=true"
    yield "ProcSubset=pid"
    yield "MemoryDenyWriteExecute=true"
    yield "SystemCallFilter=@system-service"
    yield f"SystemCallFilter={_SYSTEM_CALLS}"
    yield "SystemCallErrorNumber=EPERM"


def _rotating(manifest: Manifest, deployment: Deployment) -> Iterator[str]:
    """What a run needs that also writes consumers' files and reloads them."""
    where = deployment.environment
    consumers = list(manifest.resolved_consumers[where].values())
    yield from _common(deployment, _written(deployment, consumers))
    owned = sorted(each.name for each in consumers if each.render and each.render.owner)
    if owned:
        capabilities = "CAP_CHOWN CAP_FOWNER CAP_DAC_READ_SEARCH"
        yield f"# Loosened: the files of {', '.join(owned)} belong to another user."
        yield f"CapabilityBoundingSet={capabilities}"
        yield f"AmbientCapabilities={capabilities}"
    else:
        yield "CapabilityBoundingSet="
        yield "AmbientCapabilities="
    # No PrivateUsers= and no ProcSubset=: they would hide whose the process is that is reloaded.
    yield from _for_reloads(manifest, deployment, consumers)
    yield "SystemCallFilter=@system-service"
    yield f"SystemCallFilter={_SYSTEM_CALLS}"
    if owned:
        yield "SystemCallFilter=@chown"
    yield "SystemCallErrorNumber=EPERM"


def _for_reloads(
    manifest: Manifest, deployment: Deployment, consumers: list[Consumer]
) -> Iterator[str]:
    composed = sorted(each.name for each in consumers if isinstance(each.reload, ComposeReload))
    through = [*composed, *_in_swarm(manifest, deployment, consumers)]
    units = sorted(each.name for each in consumers if isinstance(each.reload, SystemdReload))
    commanded = sorted(
        str(each.name) for each in consumers if isinstance(each.reload, CommandReload)
    )
    secrets = manifest.secrets_in(deployment.environment)
    commanded += sorted(str(secret.name) for secret in secrets if _runs_a_program(secret))
    if units:
        yield f"# {', '.join(units)}: systemctl asks systemd over its socket; let the user"
        yield f"# {deployment.user} manage the unit by a polkit rule."
    if through:
        yield f"# Loosened: {', '.join(through)} is changed through Docker's socket. Whoever is"
        yield "# in this group can do anything on the machine."
        yield "SupplementaryGroups=docker"
    if commanded or composed:
        yield f"# Loosened: {', '.join([*commanded, *composed])}: programs of others run in here,"
        yield "# and may make code at run time. Where else they write goes into a drop-in:"
        yield "# ReadWritePaths="
    else:
        yield "MemoryDenyWriteExecute=true"


def _in_swarm(
    manifest: Manifest, deployment: Deployment, consumers: list[Consumer]
) -> Iterator[str]:
    """Yield what is reached through the socket of this machine's Docker because of its swarm."""
    store = manifest.stores[manifest.environments[deployment.environment].store]
    if store.kind is StoreKind.SWARM and not str(store.options.get("host", "")).startswith("tcp:"):
        yield f"the store {store.name}"
        yield from sorted(each.name for each in consumers if isinstance(each.reload, SwarmReload))


def _runs_a_program(secret: Secret) -> bool:
    return secret.kind in _OWN_PROGRAMS or "rewrap" in secret.target


def _written(deployment: Deployment, consumers: list[Consumer]) -> list[str]:
    """Return the folders that are written to: a file is replaced by renaming beside it."""
    places = [_state(deployment), deployment.key_home]
    for consumer in consumers:
        if consumer.render is not None:
            path = posixpath.normpath(f"{deployment.folder}/{consumer.render.path}")
            whole = consumer.render.format is RenderFormat.FILES
            places.append(path if whole else posixpath.dirname(path))
    return list(dict.fromkeys(places))


def _state(deployment: Deployment) -> str:
    return f"{deployment.folder}/.keyturn"


def _is_at_home(path: str) -> bool:
    return path.split("/")[1] in _HOMES or path.startswith("/run/user/")


def _common(deployment: Deployment, written: list[str]) -> Iterator[str]:
    at_home = any(_is_at_home(path) for path in (deployment.program, *written))
    yield "# The system is read-only but for these; each must be there before the first run."
    yield "ProtectSystem=strict"
    yield f"ReadWritePaths={' '.join(unit_word(path) for path in written)}"
    if at_home:
        yield "# Loosened: what is needed lies in a home folder, so homes can be read."
        yield "ProtectHome=read-only"
    else:
        yield "ProtectHome=true"
    yield "NoNewPrivileges=true"
    yield "PrivateTmp=true"
    yield "PrivateMounts=true"
    yield "PrivateDevices=true"
    yield "ProtectClock=true"
    yield "ProtectControlGroups=true"
    yield "ProtectHostname=true"
    yield "ProtectKernelLogs=true"
    yield "ProtectKernelModules=true"
    yield "ProtectKernelTunables=true"
    yield "ProtectProc=invisible"
    yield "RemoveIPC=true"
    yield "RestrictNamespaces=true"
    yield "RestrictRealtime=true"
    yield "RestrictSUIDSGID=true"
    yield "LockPersonality=true"
    yield "SystemCallArchitectures=native"
    yield "# The network stays: databases, vendors, mail. IPAddressAllow= in a drop-in narrows it."
    yield "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
