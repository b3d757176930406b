"""`docs/rotation-schedule.md`: one table of what is rotated, how often and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from keyturn.manifest import Manifest, Secret, format_duration
from keyturn.scaffold._facts import facts_of, hand_reason, overlap
from keyturn.scaffold._model import Deployment, Family, File, Order, header
from keyturn.scaffold._scripts import script_of
from keyturn.scaffold._words import code, markdown

__all__ = ["files", "span"]

_OUTAGE = {True: "**yes**", False: "no", None: "it depends"}
_PATH = "docs/rotation-schedule.md"


def files(manifest: Manifest, deployment: Deployment, order: Order) -> list[File]:
    """Return the page."""
    where = deployment.environment
    if not manifest.secrets:
        return [File(Family.SCHEDULE, _PATH, None)]
    secrets = [manifest.secret_in(where, name) for wave in order for name in wave]
    lines = [
        f"<!-- {header(deployment, Family.SCHEDULE)} -->",
        "",
        f"# Rotation schedule of {manifest.project.name}",
        "",
        f"For `{where}`, in the order in which `keyturn rotate --all` goes. When each was last",
        f"rotated and when it is due next is not written here: `keyturn status -e {where}` knows.",
        "",
        *_table(manifest, where, secrets),
        "",
        *_others(manifest, deployment),
    ]
    text = "\n".join(lines).rstrip("\n") + "\n"
    return [File(Family.SCHEDULE, _PATH, text)]


def span(value: timedelta | None) -> str:
    """Return *value* as people say it."""
    return "-" if value is None else format_duration(value)


def _table(manifest: Manifest, where: str, secrets: Sequence[Secret]) -> list[str]:
    heads = (
        "credential",
        "kind",
        "owner",
        "priority",
        "rotated every",
        "old one works on for",
        "outage",
        "who",
        "command",
    )
    rows = [_row(manifest, where, secret) for secret in secrets]
    return [_line(heads), _line(["---"] * len(heads)), *map(_line, rows)]


def _row(manifest: Manifest, where: str, secret: Secret) -> list[str]:
    reason = hand_reason(secret)
    verb = "rotate" if secret.spec.rotates else "set"
    return [
        code(secret.name),
        code(secret.kind),
        markdown(secret.owner or manifest.project.owner or "-"),
        secret.priority,
        span(secret.max_age),
        span(overlap(secret) or None),
        _OUTAGE[facts_of(secret).outage],
        "the schedule" if reason is None else f"by hand: {markdown(reason)}",
        code(script_of(manifest, secret) or f"keyturn {verb} {secret.name} -e {where}"),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _others(manifest: Manifest, deployment: Deployment) -> list[str]:
    lines = [
        f"The schedule spreads each over the last {manifest.schedule.jitter_percent} percent of",
        f"its time, and keeps members of a pair {span(manifest.schedule.pair_distance)} apart.",
    ]
    frozen = manifest.environments[deployment.environment].freeze
    if frozen:
        zone = manifest.environments[deployment.environment].timezone
        windows = ", ".join(code(window.text) for window in frozen)
        lines += ["", f"It rotates nothing during {windows} ({code(zone)})."]
    lines += ["", *_differences(manifest, deployment)]
    lines += ["How to do it by hand: [the runbook](credential-rotation-runbook.md)."]
    return lines


def _differences(manifest: Manifest, deployment: Deployment) -> list[str]:
    found = []
    for where in manifest.environments:
        if where == deployment.environment:
            continue
        for secret in manifest.secrets_in(where):
            here = manifest.resolved[deployment.environment].get(secret.name)
            if here is None:
                found.append(f"- {code(secret.name)} is only in {code(where)}.")
            elif (here.max_age, here.grace) != (secret.max_age, secret.grace):
                found.append(
                    f"- In {code(where)}, {code(secret.name)} is rotated every "
                    f"{span(secret.max_age)}, and the old one works on for {span(secret.grace)}."
                )
    return [*found, ""] if found else []
