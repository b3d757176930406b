"""What somebody else did to secrets of AWS that Keyturn keeps: seen, taken or undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from keyturn.core.clock import Clock
from keyturn.core.ids import FieldName, SecretName
from keyturn.core.model import Origin, SecretRef, Stage, Version
from keyturn.core.ports import Drift, DriftKind
from keyturn.errors import InternalError, NotFound
from keyturn.stores import _rules
from keyturn.stores._aws_copies import Copies
from keyturn.stores._aws_put import next_number
from keyturn.stores._aws_record import (
    CURRENT,
    FORM_BINARY,
    FORM_JSON,
    FORM_STRING,
    Mark,
    Sight,
    decode,
)
from keyturn.stores._aws_secrets import AwsSecrets
from keyturn.stores._place import mark_is_stale
from keyturn.stores._truth import drifted

__all__ = ["Watch"]


class Watch:
    """Compares what is current with what Keyturn made current."""

    def __init__(self, secrets: AwsSecrets, copies: Copies, clock: Clock, where: str) -> None:
        self._aws = secrets
        self._copies = copies
        self._clock = clock
        self._where = where

    def drifts(
        self, sights: Iterable[Sight], declared: Mapping[SecretName, Collection[FieldName]]
    ) -> dict[SecretName, Drift]:
        """Return what was changed behind Keyturn's back, of those secrets."""
        found = {}
        for sight in sights:
            drift = self._drift(sight)
            if drift is not None:
                if drift.kind is DriftKind.FOREIGN:
                    fields = tuple(sorted(declared.get(sight.ref.name, ())))
                    drift = replace(drift, fields=fields)
                found[sight.ref.name] = drift
        return found

    def refuse(self, sight: Sight, mark: Mark) -> None:
        """
        Refuse to write over what somebody else wrote.

        Raises:
            Conflict: `store.drift`.
        """
        drift = _of_secret(sight) or self._of_copies(sight.ref, mark)
        if drift is not None:
            raise drifted(drift, self._where)

    def _drift(self, sight: Sight) -> Drift | None:
        drift = _of_secret(sight)
        if drift is None and sight.recorded is not None:
            return self._of_copies(sight.ref, sight.recorded)
        return drift

    def _of_copies(self, ref: SecretRef, mark: Mark) -> Drift | None:
        fields = self._copies.changed(ref, mark)
        return Drift(ref, DriftKind.CHANGED, mark.number, fields) if fields else None

    def accept(self, ref: SecretRef, fields: tuple[FieldName, ...]) -> Version:
        """Number what somebody else made current, in one try."""
        sight = self._aws.look(ref)
        if sight is None or (not sight.foreign and sight.recorded is None):
            raise self._not_there(ref)
        id_ = sight.at(CURRENT)
        if not sight.foreign or id_ is None:
            mark = self._recorded(sight)
            self.refuse(sight, mark)
            return mark.version(ref)
        _rules.check_idle(sight.state)
        answer = self._aws.value_of(ref, id_)
        form = FORM_BINARY if "SecretBinary" in answer else FORM_STRING
        if len(fields) > 1 or self._aws.settings.layout == "json":
            form = FORM_JSON
        if not fields or decode(answer, form, fields) is None:
            raise self._not_there(ref)
        number = next_number(sight, self._aws.unlabelled(ref))
        mark = Mark(id_, number, Origin.IMPORTED, form, self._clock.now(), fields)
        mark.check(ref)
        self._aws.tag(ref, sight, self._aws.tags(ref))
        self._aws.move(ref, mark.label, to=id_, off=None)
        if self._aws.seen(ref).rivals(mark):
            self._aws.drop(ref, mark.label, id_)
            raise mark_is_stale(f"`{ref}`")
        self._copies.follow(ref, mark)
        return mark.version(ref)

    def restore(self, ref: SecretRef) -> Version:
        """Make the recorded version current again, in one try."""
        sight = self._aws.look(ref)
        mark = self._recorded(sight or Sight(ref, {}, {}))
        if sight is not None and sight.foreign:
            self._aws.move(ref, CURRENT, to=mark.id, off=sight.at(CURRENT))
        self._copies.follow(ref, mark)
        return mark.version(ref)

    def _recorded(self, sight: Sight) -> Mark:
        mark = sight.recorded
        if mark is None:
            _rules.number_at(_rules.unwritten(sight.ref), Stage.CURRENT)
            raise InternalError("an unwritten secret has a version")
        return mark

    def _not_there(self, ref: SecretRef) -> NotFound:
        return NotFound(
            f"{self._where} does not hold all fields of `{ref}`",
            hint=f"`keyturn set {ref.name} -e {ref.environment}` gives it a value",
        )


def _of_secret(sight: Sight) -> Drift | None:
    if not sight.foreign:
        return None
    mark = sight.recorded
    if mark is None:
        return Drift(sight.ref, DriftKind.FOREIGN, 0, ())
    return Drift(sight.ref, DriftKind.CHANGED, mark.number, mark.fields)
