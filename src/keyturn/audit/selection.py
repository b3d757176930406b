"""Which records a reader wants."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from keyturn.audit.events import Outcome
from keyturn.audit.record import Record
from keyturn.core.clock import rfc3339

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """
    What a record must be to be shown; an empty set or None asks nothing.

    Args:
        actions: Any of these, each an action or a pattern such as `secret.value.*`.
        object: A pattern with `*`, `?`, `[...]`, such as `production/*`.
        since: Not before this moment.
        until: Before this moment.
    """

    actions: AbstractSet[str] = frozenset()
    object: str | None = None
    actor: str | None = None
    outcomes: AbstractSet[Outcome] = frozenset()
    since: datetime | None = None
    until: datetime | None = None

    def accepts(self, record: Record) -> bool:
        """Tell whether *record* is wanted."""
        # Times are text of one width in UTC, so text order is time order.
        return (
            (not self.outcomes or record.outcome in self.outcomes)
            and (self.actor is None or record.actor.name == self.actor)
            and (self.since is None or record.time >= rfc3339(self.since))
            and (self.until is None or record.time < rfc3339(self.until))
            and (not self.actions or any(fnmatchcase(record.action, a) for a in self.actions))
            and (self.object is None or fnmatchcase(record.object, self.object))
        )
