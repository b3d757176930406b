"""
What was told to whom: a row is written before a message goes out, and again after.

    absent or failed ──claim──▶ sending ──┬─▶ sent      told again only if its level says so
                                          └─▶ failed    told again by the next run
    sending for ten minutes    the process died: told again, rather than never

So a message is sent once, or twice where a process died in between; never not at all.
The claim is one transaction, so of two runs at once only one sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from keyturn._internal.database import Database
from keyturn.core.clock import Clock, parse_time, rfc3339
from keyturn.notify.digest import Notice

__all__ = ["Ledger"]

# Longer than a run can take to send to every contact.
_SENDING = timedelta(minutes=10)
# A timer that comes each week does not come at the same second: half a day of seven is let off.
_LET_OFF = 13 / 14
# Longer ago than anything is told again; with it the table stays bounded.
_KEPT = timedelta(days=800)

_PUT = """
INSERT INTO notice (environment, secret, about, level, contact, state, run, at)
VALUES (?, ?, ?, ?, ?, 'sending', ?, ?)
ON CONFLICT DO UPDATE SET state = excluded.state, run = excluded.run, at = excluded.at
"""


class Ledger:
    """Reads and writes the table `notice`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def untold(self, notices: Sequence[Notice], contact: str) -> list[Notice]:
        """Return those of *notices* that *contact* is to be told now; nothing is written."""
        if not notices:
            return []
        now = self._clock.now()
        rows = self._database.rows(
            "SELECT secret, about, level, state, at FROM notice"
            " WHERE environment = ? AND contact = ?",
            (notices[0].ref.environment, contact),
        )
        told = {(row[0], row[1], row[2]): (row[3], parse_time(row[4])) for row in rows}
        return [
            notice
            for notice in notices
            if _is_open(notice, told.get((notice.ref.name, notice.about, notice.level.value)), now)
        ]

    def claim(self, notices: Sequence[Notice], contact: str, *, run: str) -> list[Notice]:
        """
        Return those of *notices* that this *run* is to tell *contact*, and note that it does.

        Crash safety:
            Durable on return, or with the outer transaction. A run that dies before
            `settle` leaves them to a later one.
        """
        now = self._clock.now()
        with self._database.transaction():
            # Read again under the write lock: another run may have claimed them meanwhile.
            claimed = self.untold(notices, contact)
            self._database.execute_many(
                _PUT,
                [
                    (
                        notice.ref.environment,
                        notice.ref.name,
                        notice.about,
                        notice.level.value,
                        contact,
                        run,
                        rfc3339(now),
                    )
                    for notice in claimed
                ],
            )
            self._database.execute("DELETE FROM notice WHERE at < ?", (rfc3339(now - _KEPT),))
        return claimed

    def settle(self, *, run: str, contact: str, sent: bool) -> None:
        """Note what became of all that *run* claimed for *contact*."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE notice SET state = ?, at = ? WHERE run = ? AND contact = ?"
                " AND state = 'sending'",
                ("sent" if sent else "failed", rfc3339(self._clock.now()), run, contact),
            )


def _is_open(notice: Notice, told: tuple[str, datetime] | None, now: datetime) -> bool:
    if told is None:
        return True
    state, at = told
    # The clock may have been set back since: a time to come is as far away as one past.
    passed = abs(now - at)
    if state == "sending":
        return passed >= _SENDING
    if state == "failed":
        return True
    again = timedelta(days=notice.level.again)
    return bool(again) and passed >= again * _LET_OFF
