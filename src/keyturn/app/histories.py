"""Reading the histories of many secrets without holding many of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import History
from keyturn.core.ports import Store
from keyturn.errors import Corrupt, KeyturnError

__all__ = ["Found", "read_histories"]

# Of a store of others, whose values are small and whose every answer costs; of our own
# one by one, so that only one is held.
_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class Found:
    """What a store has of one secret, or why it cannot be read."""

    name: SecretName
    history: History | None
    error: KeyturnError | None = None


def read_histories(
    store: Store, environment: EnvironmentName, names: Sequence[SecretName]
) -> Iterator[Found]:
    """Yield what *store* has of *names*, few at a time; one that is damaged hinders no other."""
    together = 1 if store.capabilities.transactional else _TOGETHER
    for start in range(0, len(names), together):
        yield from _batch(store, environment, names[start : start + together])


def _batch(
    store: Store, environment: EnvironmentName, names: Sequence[SecretName]
) -> Iterator[Found]:
    try:
        found = store.histories(environment, names)
    except Corrupt as error:
        if len(names) == 1:
            yield Found(names[0], None, error)
            return
        for name in names:
            yield from _batch(store, environment, [name])
        return
    for name in names:
        yield Found(name, found.get(name))
