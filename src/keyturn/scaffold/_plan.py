"""Which files a project ought to have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from keyturn.manifest import Manifest
from keyturn.scaffold import _cron, _env_example, _kubernetes, _runbook, _schedule, _scripts
from keyturn.scaffold import _systemd as _units
from keyturn.scaffold._model import Deployment, Family, File, Order

__all__ = ["plan"]

_Maker = Callable[[], list[File]]


def plan(
    manifest: Manifest,
    deployment: Deployment,
    *,
    families: Collection[Family],
    order: Order,
    example: str | None,
) -> list[File]:
    """
    Return the files of *families*, in the order of `Family`.

    Args:
        order: The environment's secrets in waves, as they are rotated.
        example: What `.env.example` says now; what people wrote into it is kept.
    """
    makers: Mapping[Family, _Maker] = {
        Family.ENV_EXAMPLE: lambda: _env_example.files(manifest, example),
        Family.SCRIPTS: lambda: _scripts.files(manifest, deployment),
        Family.SYSTEMD: lambda: _units.files(manifest, deployment),
        Family.CRON: lambda: _cron.files(manifest, deployment),
        Family.KUBERNETES: lambda: _kubernetes.files(manifest, deployment),
        Family.SCHEDULE: lambda: _schedule.files(manifest, deployment, order),
        Family.RUNBOOK: lambda: _runbook.files(manifest, deployment, order),
    }
    return [file for family in Family if family in families for file in makers[family]()]
