"""
The status as Prometheus text, version 0.0.4, for a node exporter's text-file collector.

Names, numbers and times only. Times are seconds since the epoch, so that an alert can be
written as `keyturn_secret_due_timestamp_seconds - time() < 7 * 86400`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from keyturn.app.inspection import StatusRow, Verdict

__all__ = ["prometheus_text"]

# (name, what it tells)
_FAMILIES = {
    "keyturn_status_timestamp_seconds": "When this was written.",
    "keyturn_secret_age_seconds": "Age of the current version.",
    "keyturn_secret_max_age_seconds": "Age at which a secret is overdue.",
    "keyturn_secret_due_timestamp_seconds": "When the current version is due for rotation.",
    "keyturn_secret_overdue_timestamp_seconds": "When the current version reaches its max_age.",
    "keyturn_secret_version": "Number of the current version.",
    "keyturn_secret_consumers": "How many consumers are given the secret.",
    "keyturn_secret_state": "1 for the state that the secret is in, 0 for the others.",
    "keyturn_secret_rotation_open": "Whether a rotation has begun and not ended.",
    "keyturn_secret_last_rotation_timestamp_seconds": "When the newest rotation ended, or was"
    " last heard of.",
    "keyturn_secret_last_rotation_state": "1, with what became of the newest rotation.",
}

Sample = tuple[str, dict[str, str], float]


def prometheus_text(
    project: str, environment: str, rows: Sequence[StatusRow], *, now: datetime
) -> str:
    """Return *rows* as a text exposition; a family without samples is left out."""
    place = {"project": project, "environment": environment}
    samples: list[Sample] = [("keyturn_status_timestamp_seconds", place, now.timestamp())]
    for row in rows:
        labels = {**place, "secret": str(row.secret.name), "kind": str(row.secret.kind)}
        samples += _samples(row, labels, now)
    lines = []
    for name, meaning in _FAMILIES.items():
        own = [sample for sample in samples if sample[0] == name]
        if own:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            lines += [_line(*sample) for sample in own]
    return "\n".join(lines) + "\n"


def _samples(row: StatusRow, labels: dict[str, str], now: datetime) -> Iterator[Sample]:
    prefix = "keyturn_secret"
    if row.created_at is not None:
        yield f"{prefix}_age_seconds", labels, max(0.0, (now - row.created_at).total_seconds())
    if row.secret.max_age is not None:
        yield f"{prefix}_max_age_seconds", labels, row.secret.max_age.total_seconds()
    if row.due_at is not None:
        yield f"{prefix}_due_timestamp_seconds", labels, row.due_at.timestamp()
    if row.overdue_at is not None:
        yield f"{prefix}_overdue_timestamp_seconds", labels, row.overdue_at.timestamp()
    if row.version is not None:
        yield f"{prefix}_version", labels, row.version
    yield f"{prefix}_consumers", labels, len(row.consumers)
    for state in Verdict:
        yield f"{prefix}_state", {**labels, "state": str(state)}, float(row.verdict is state)
    yield f"{prefix}_rotation_open", labels, float(row.open_rotation is not None)
    if row.last is not None:
        ended = row.last.finished_at or row.last.updated_at
        yield f"{prefix}_last_rotation_timestamp_seconds", labels, ended.timestamp()
        yield f"{prefix}_last_rotation_state", {**labels, "state": row.last.state.value}, 1


def _line(name: str, labels: dict[str, str], number: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    # Not shortened: an epoch in six digits would be hours off.
    shown = str(int(number)) if number == int(number) else f"{number:.3f}"
    return f"{name}{{{inside}}} {shown}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
