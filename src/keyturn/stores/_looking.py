"""Looking at the places of a layout: what is true of its secrets as of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import final

from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import Conflict
from keyturn.stores._ledger import Ledger
from keyturn.stores._place import Layout, Place, Seen
from keyturn.stores._truth import Truth, true_of

__all__ = ["Looker"]

# A ledger that moves while the live document is read is read again.
_LOOKS = 20


@final
class Looker:
    """Looks, and writes nothing."""

    def __init__(self, layout: Layout, entropy: Entropy) -> None:
        self._layout = layout
        self._entropy = entropy

    def ledger(self, seen: Seen) -> Ledger:
        """Return the ledger that was seen, or a new one."""
        if seen.ledger is None:
            return Ledger.new(self._entropy)
        return Ledger.parse(seen.ledger, where=self._layout.where)

    def look(
        self,
        place: Place,
        refs: Sequence[SecretRef] | None,
        environment: EnvironmentName | None = None,
    ) -> tuple[Seen, Ledger, list[Truth]]:
        """Return what is true of *refs*, or of all that the ledger names, as of one moment."""
        for _ in range(_LOOKS):
            seen = place.look(live=True, ledger=True)
            ledger = self.ledger(seen)
            asked = refs
            if asked is None:
                where = environment or EnvironmentName("")
                asked = [SecretRef(where, name) for name in ledger.entries]
            truths = [true_of(place, seen, ledger, ref) for ref in asked]
            if all(truth.clean for truth in truths):
                return seen, ledger, truths
            # The ledger was read first: a version it lacks may have been made since.
            if place.look(live=False, ledger=True).ledger_mark == seen.ledger_mark:
                return seen, ledger, truths
        raise Conflict(
            f"{self._layout.where} changes faster than it can be read",
            hint="run the command again",
            code="store.busy",
        )

    def truths(
        self, environment: EnvironmentName, names: Iterable[SecretName] | None
    ) -> Iterator[Truth]:
        """Yield what is true of *names*, or of all that are there, by name."""
        wanted = None if names is None else sorted(set(names))
        if wanted is not None and not wanted:
            return
        found = []
        for place in self._layout.places(environment, wanted):
            _, _, truths = self.look(place, None, environment)
            found += [t for t in truths if wanted is None or t.ref.name in set(wanted)]
        yield from sorted(found, key=lambda truth: truth.ref.name)
