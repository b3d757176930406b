"""A layout in memory, with faults on demand: what `OutsideStore` is tested over."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from keyturn.core.model import SecretRef
from keyturn.core.ports import StoreCapabilities
from keyturn.errors import OutcomeUnknown
from keyturn.stores._place import Seen, mark_is_stale, plain_key

CAPABILITIES = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=1024 * 1024,
)


@dataclass
class Shelf:
    """What a place holds, shared by every handle on it."""

    live: dict = field(default_factory=dict)
    live_mark: int = 0
    ledger: bytes | None = None
    ledger_mark: int = 0
    kept: dict = field(default_factory=dict)


class MemoryPlace:
    def __init__(self, layout, shelf):
        self.layout, self.shelf = layout, shelf

    def live_key(self, name, field):
        return plain_key(name, field)

    def look(self, *, live, ledger):
        with self.layout.lock:
            found = (self.shelf.ledger, self.shelf.ledger_mark) if ledger else (None, None)
        self.layout.between()
        with self.layout.lock:
            held = dict(self.shelf.live) if live else {}
            mark = (self.shelf.live_mark or None) if live else None
        self.layout.calls.append("look")
        return Seen(held, found[0], mark, found[1])

    def write_live(self, changes, *, seen):
        def write():
            if (self.shelf.live_mark or None) != seen.live_mark:
                raise mark_is_stale("live")
            assert changes, "a write that changes nothing"
            self.shelf.live = {
                key: data for key, data in {**seen.live, **changes}.items() if data is not None
            }
            self.shelf.live_mark += 1

        self.layout.write("live", write)

    def write_ledger(self, ledger, *, keep, drop, seen):
        def write():
            if self.shelf.ledger_mark != seen.ledger_mark:
                raise mark_is_stale("ledger")
            for key, data in keep.items():
                assert self.shelf.kept.setdefault(key, data) == data, "a kept document changed"
            self.shelf.ledger = ledger
            self.shelf.ledger_mark += 1
            for key in drop:
                self.shelf.kept.pop(key, None)

        self.layout.write("ledger", write)

    def kept(self, key):
        with self.layout.lock:
            return self.shelf.kept.get(key)


class MemoryLayout:
    """
    One live document an environment, or one a secret with *each*.

    `fail` is called before and after each write with its name; what it raises is
    what the caller sees, so that a write is lost, or its answer.
    """

    capabilities = CAPABILITIES
    where = "memory"

    def __init__(self, shelves=None, lock=None, *, each=False, history_limit=None):
        self.shelves = {} if shelves is None else shelves
        self.lock = lock or threading.Lock()
        self.each = each
        self.history_limit = history_limit
        self.calls = []
        self.fail = lambda point: None
        self.between = lambda: None

    def another(self):
        return MemoryLayout(
            self.shelves, self.lock, each=self.each, history_limit=self.history_limit
        )

    def place(self, ref):
        key = (ref.environment, ref.name if self.each else "")
        with self.lock:
            return MemoryPlace(self, self.shelves.setdefault(key, Shelf()))

    def places(self, environment, names):
        if self.each and names is not None:
            return [self.place(SecretRef(environment, name)) for name in names]
        if names is not None:
            return [self.place(SecretRef(environment, ""))]
        with self.lock:
            found = [
                shelf for (where, _), shelf in sorted(self.shelves.items()) if where == environment
            ]
        return [MemoryPlace(self, shelf) for shelf in found]

    def close(self):
        pass

    def write(self, what, act):
        self.calls.append(what)
        self.fail(f"{what}.before")
        with self.lock:
            act()
        self.fail(f"{what}.after")


def lost_once(point, error=None):
    """Return a `fail` that loses one answer, or one request, at *point*."""
    state = {"left": 1}

    def fail(at):
        if at == point and state["left"]:
            state["left"] = 0
            raise error or OutcomeUnknown("no answer")

    return fail
