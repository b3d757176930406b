"""
Handing values to those who use them: by environment, by file, and with a reload.

The names load on first use, because the command's fast path passes through here
and needs none of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyturn.deliver.environment import (
        DANGEROUS_NAMES,
        MAX_ENTRY_BYTES,
        VERSIONS_VARIABLE,
        check_names,
        check_variables,
        versions_text,
    )
    from keyturn.deliver.files import (
        ExpectedFile,
        Written,
        differences,
        expected_files,
        is_foreign,
        require_place,
        write_rendered,
    )
    from keyturn.deliver.formats import render
    from keyturn.deliver.health import Health, look_at, wait_healthy
    from keyturn.deliver.model import (
        CommandReload,
        ComposeReload,
        Format,
        HttpReload,
        Reload,
        Rendering,
        RenderTarget,
        SignalReload,
        SystemdReload,
    )
    from keyturn.deliver.reload import reload_consumer
    from keyturn.deliver.rollout import (
        RolloutReload,
        Workload,
        require_restartable,
        restart_workload,
    )
    from keyturn.deliver.swarm import ServiceUpdater, SwarmUpdate

__all__ = [
    "DANGEROUS_NAMES",
    "MAX_ENTRY_BYTES",
    "VERSIONS_VARIABLE",
    "CommandReload",
    "ComposeReload",
    "ExpectedFile",
    "Format",
    "Health",
    "HttpReload",
    "Reload",
    "RenderTarget",
    "Rendering",
    "RolloutReload",
    "ServiceUpdater",
    "SignalReload",
    "SwarmUpdate",
    "SystemdReload",
    "Workload",
    "Written",
    "check_names",
    "check_variables",
    "differences",
    "expected_files",
    "is_foreign",
    "look_at",
    "reload_consumer",
    "render",
    "require_place",
    "require_restartable",
    "restart_workload",
    "versions_text",
    "wait_healthy",
    "write_rendered",
]

_HOMES = ("environment", "model", "formats", "files", "reload", "health", "rollout", "swarm")


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        for home in _HOMES:
            module = import_module(f"keyturn.deliver.{home}")
            if name in module.__all__:
                found: object = getattr(module, name)
                return found
    raise AttributeError(f"module 'keyturn.deliver' has no attribute {name!r}")
