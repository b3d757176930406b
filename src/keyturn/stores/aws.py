"""
A store on AWS Secrets Manager, by its own versions and stages.

Layout
    `clipper/production/jwt_key`     the value itself, of a secret with one field `value`
    `clipper/production/db`          all fields of any other, as one JSON object
    `clipper/production/db_password` the value itself of each field of such a secret

The fields of a login change together, because they are one version of `db`: whoever
needs user name and password of the same moment reads that. `db_password` and
`db_username` follow right after each promote. An application whose user name does
not change reads the password alone; where two logins take turns it reads `db`. With
`layout = "json"` there are only the objects.

Stages
    `AWSCURRENT`, `AWSPREVIOUS` and `AWSPENDING` are Keyturn's stages. A label moves by
    naming where it is and where it goes, which is the only compare-and-set of AWS.
    `AWSPENDING` on the version that is current means, as to AWS, that nothing is
    pending. AWS's own rotation is never called.

    The first version of a secret is current at once, whatever is asked of AWS. So a
    secret begins with a version that says that nothing is current yet; an application
    that reads too early gets that text.

Versions
    Number, origin, fields and form stand in labels and version ids, so no value is read
    to know them. AWS takes 20 labels a secret: the newest `HISTORY` versions keep theirs.
    To destroy is to take every label away: Keyturn does not read such a version any
    more, AWS drops it when there are more than 100 and it is a day old, and until then
    whoever has its version id can read it.

Calls
    read of a stage 1, by number 2; `read_many` 1 for each 20; state 1, history 2;
    states and drifts 1 for each 100 secrets of the account and 1 for each; promote and
    discard 2, destroy 3, 4 for the newest; put 6, 8 for a new secret, 1 more for each
    version let go.
    A promote also looks at each copy twice, and brings it up in 3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import (
    History,
    Move,
    Origin,
    SecretRef,
    SecretState,
    Stage,
    Values,
    Version,
    VersionedValue,
)
from keyturn.core.ports import Drift, StoreCapabilities
from keyturn.errors import InternalError, NotFound
from keyturn.stores import _rules
from keyturn.stores._aws_calls import SecretsApi
from keyturn.stores._aws_carry import AwsCarrier
from keyturn.stores._aws_copies import Copies
from keyturn.stores._aws_deletion import delete, undelete
from keyturn.stores._aws_drift import Watch
from keyturn.stores._aws_put import HISTORY, Writer, Writing
from keyturn.stores._aws_record import (
    CURRENT,
    FLOOR_TAG,
    MAX_VALUE_BYTES,
    NOTHING_ID,
    PENDING,
    PREVIOUS,
    Mark,
    Sight,
    birth_label,
    decode,
    encode,
    number_of_id,
    opened_as,
    origin_of_id,
    token_digest,
    token_of_id,
)
from keyturn.stores._aws_secrets import AwsSecrets, AwsSettings
from keyturn.stores._place import mark_is_stale

__all__ = ["HISTORY", "AwsSettings", "AwsStore"]

# A label must hold any number that may come.
_LONGEST_NUMBER: Final = 99_999_999

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=MAX_VALUE_BYTES,
    destroys_at_once=False,
)
# What fits into a JSON document in base64, with room for the field's name.
_MAX_JSON_BYTES: Final = 48_000
_LABELS: Final[Mapping[Stage, str]] = {
    Stage.CURRENT: CURRENT,
    Stage.PENDING: PENDING,
    Stage.PREVIOUS: PREVIOUS,
}


@final
class AwsStore:
    """
    Implements `keyturn.core.ports.WatchedStore`, for any thread.

    Args:
        facts: What AWS is told of a secret as tags, such as owner and purpose; no value.
    """

    def __init__(
        self,
        settings: AwsSettings,
        *,
        project: str,
        clock: Clock,
        entropy: Entropy,
        facts: Callable[[SecretRef], Mapping[str, str]] = lambda _: {},
    ) -> None:
        settings.check()
        self._api = SecretsApi(
            region=settings.region,
            endpoint_url=settings.endpoint_url,
            profile=settings.profile,
            clock=clock,
            entropy=entropy,
        )
        self._aws = AwsSecrets(self._api, settings, project=project, facts=facts)
        self.recheck: Final = self._aws.recheck
        self._copies = Copies(self._aws)
        self._writer = Writer(self._aws, clock)
        self._watch = Watch(self._aws, self._copies, clock, self.where)
        self._carrier = AwsCarrier(
            self._aws, self._copies, self._writer, self._watch, where=self.where
        )

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store guarantees."""
        if self._aws.settings.layout == "json":
            return replace(_CAPABILITIES, max_value_bytes=_MAX_JSON_BYTES)
        return _CAPABILITIES

    @property
    def where(self) -> str:
        """Where it is, for messages."""
        return f"{self._aws.settings.region} of {self._api.where}"

    def close(self) -> None:
        """Let connections go."""
        self._api.close()

    # --- put ----------------------------------------------------------------------------

    def put_pending(
        self, ref: SecretRef, values: Values, *, origin: Origin, token: Token
    ) -> Version:
        """
        Store *values* as a new version and point `pending` at it.

        Raises:
            Conflict: Another version is pending, or *token* was used for other values.
            Rejected: A value is too large, a name is taken or waits for its deletion.
            OutcomeUnknown: No answer came. Call again with the same *token*.
            Unavailable: AWS does not answer.

        Crash safety:
            Durable on return. Before that: nothing, or the pending version. A version that
            is stored and not yet pending is found by its token, and counts for nobody else.
        """
        _rules.check_put(ref, values, token)
        _rules.check_sizes(ref, values, self.capabilities.max_value_bytes)
        form, content = encode(ref, values, json_always=self._aws.settings.layout == "json")
        digest = token_digest(self._aws.project, ref, token)
        put = Writing(ref, values, origin, digest, form, content)
        self._writer.mark(put, _LONGEST_NUMBER).check(ref)
        return self._api.again(lambda: self._writer.put(put))

    def find(self, ref: SecretRef, token: Token) -> Version | None:
        """Return the version that `put_pending` made with *token*."""
        sight = self._aws.look(ref)
        if sight is None:
            return None
        digest = token_digest(self._aws.project, ref, token)
        for mark in sight.marks.values():
            if token_of_id(mark.id) == digest:
                return mark.version(ref)
        gone = self._destroyed(sight)
        return next((made for id_, made in gone.items() if token_of_id(id_) == digest), None)

    # --- stages -------------------------------------------------------------------------

    def promote(self, ref: SecretRef, number: int, *, expected_current: int | None) -> SecretState:
        """
        Point `current` at version *number* and `previous` at what was current, in one step.

        Raises:
            Conflict: `current` is not *expected_current*; or what is current is none of
                ours, code `store.drift`.
            NotFound: There is no such version, or it was destroyed.
            OutcomeUnknown: No answer came. Call again.

        Crash safety:
            Readers see the old version or the new one, all fields of it. The names of
            single fields follow; after a crash, with the next call.
        """
        return self._api.again(lambda: self._promote(ref, number, expected_current))

    def _promote(self, ref: SecretRef, number: int, expected_current: int | None) -> SecretState:
        sight = self._aws.look(ref)
        if sight is None:
            raise _rules.no_version(ref, number)
        mark = self._known(sight, number)
        state = sight.state
        target = _rules.promoted(state, number, expected_current=expected_current)
        if target is state:
            self._copies.follow(ref, None if sight.foreign else mark)
            return target
        self._watch.refuse(sight, mark)
        if birth_label(mark.id) in sight.labels[mark.id]:
            self._aws.drop(ref, birth_label(mark.id), mark.id)
        parked = sight.at(PENDING)
        if parked is not None and sight.pending_id is None:
            # Where `current` is about to leave, it would look like something pending.
            self._aws.move(ref, PENDING, to=None, off=parked)
        self._aws.move(ref, CURRENT, to=mark.id, off=sight.at(CURRENT))
        self._copies.follow(ref, mark)
        return target

    def discard_pending(self, ref: SecretRef, number: int) -> SecretState:
        """
        Clear `pending` where it points at *number*; the version stays in the history.

        Raises:
            Conflict: `pending` points at another version.
            OutcomeUnknown: No answer came. Call again.
        """

        def discard() -> SecretState:
            sight = self._aws.look(ref)
            if sight is None:
                return _rules.unwritten(ref)
            target = _rules.discarded(sight.state, number)
            pending = sight.pending_id
            if pending is None:
                return target
            if sight.has(pending, birth_label(pending)):
                # With it, the write that made the version would make it pending again.
                self._aws.drop(ref, birth_label(pending), pending)
            self._aws.move(ref, PENDING, to=None, off=pending)
            return target

        return self._api.again(discard)

    def destroy(self, ref: SecretRef, number: int) -> None:
        """
        Take away what keeps version *number* readable; the number stays taken.

        It is not read again. AWS drops it by and by, see the head of this module.

        Raises:
            Conflict: A stage points at it.
            NotFound: There is no such version.
            OutcomeUnknown: No answer came. Call again.
        """
        self._api.again(lambda: self._destroy(ref, number))

    def _destroy(self, ref: SecretRef, number: int) -> None:
        sight = self._aws.look(ref)
        if sight is None or not 0 < number < sight.next_number:
            raise _rules.no_version(ref, number)
        mark = sight.marks.get(number)
        if mark is None:
            return
        _rules.check_destroy(sight.state, number)
        if number == sight.next_number - 1:
            # Nothing else would tell that the number was given.
            self._aws.tag(ref, sight, {FLOOR_TAG: str(number)})
        self._aws.move(ref, mark.label, to=None, off=mark.id)
        after = self._aws.seen(ref)
        if any(after.has(mark.id, label) for label in _LABELS.values()):
            # Somebody gave it a stage in between: it stays.
            self._aws.move(ref, mark.label, to=mark.id, off=None)
            raise mark_is_stale(f"`{ref}`")

    # --- reads --------------------------------------------------------------------------

    def read(self, ref: SecretRef, selector: Stage | int) -> VersionedValue:
        """
        Return a version by stage or number.

        Raises:
            NotFound: Nothing there.
            Corrupt: What is stored is not what was written.
        """
        if not isinstance(selector, Stage):
            sight = self._aws.look(ref)
            if sight is None:
                raise _rules.no_version(ref, selector)
            mark = self._known(sight, selector)
            return opened_as(ref, mark, self._aws.value_of(ref, mark.id))
        answer = self._aws.value_at(ref, _LABELS[selector])
        found = None if answer is None else self._staged(ref, selector, answer)
        if found is None:
            _rules.number_at(_rules.unwritten(ref), selector)
            raise InternalError("an unwritten secret has a version")
        return found

    def _staged(
        self, ref: SecretRef, stage: Stage, answer: Mapping[str, Any]
    ) -> VersionedValue | None:
        """Return what an answer for *stage* carries; None where that is not ours to give."""
        id_, labels = str(answer["VersionId"]), tuple(answer.get("VersionStages") or ())
        if id_ == NOTHING_ID:
            return None
        if stage is Stage.PENDING and {CURRENT, PREVIOUS} & set(labels):
            return None
        mark = Mark.find(id_, labels)
        if mark is not None:
            return opened_as(ref, mark, answer)
        return self._drifted(ref, answer) if stage is Stage.CURRENT else None

    def _drifted(self, ref: SecretRef, answer: Mapping[str, Any]) -> VersionedValue | None:
        """Return what somebody else made current, as the recorded version's fields."""
        sight = self._aws.look(ref)
        mark = None if sight is None else sight.recorded
        if mark is None:
            return None
        values = decode(answer, mark.form, mark.fields)
        if values is None:
            raise NotFound(
                f"what is current of `{ref}` in {self.where} does not hold its fields",
                hint=f"`keyturn drift {ref.name} -e {ref.environment}` tells more",
                code="store.drift",
            )
        return VersionedValue(mark.version(ref, drifted=True), values)

    def read_many(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, VersionedValue]:
        """Return the current versions of *names* that have one: one call for each 20."""
        found = {}
        refs = [SecretRef(environment, name) for name in sorted(set(names))]
        for ref, answer in sorted(self._aws.values(refs).items()):
            current: Mapping[str, Any] | None = answer
            if CURRENT not in (answer.get("VersionStages") or ()):
                # It moved on while it was read; what is not current is not given as such.
                current = self._aws.value_at(ref, CURRENT)
            value = None if current is None else self._staged(ref, Stage.CURRENT, current)
            if value is not None:
                found[ref.name] = value
        return found

    def current_versions(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, Version]:
        """Return what is known of the current versions of *names*: one call for each."""
        refs = [SecretRef(environment, name) for name in sorted(set(names))]
        found = {}
        for ref, sight in self._aws.look_at_each(refs).items():
            if sight.recorded is not None:
                found[ref.name] = sight.recorded.version(ref, drifted=sight.foreign)
        return found

    def state(self, ref: SecretRef) -> SecretState:
        """Return where the stages point; all None for a secret never written."""
        sight = self._aws.look(ref)
        return _rules.unwritten(ref) if sight is None else sight.state

    def states(self, environment: EnvironmentName) -> Mapping[SecretName, SecretState]:
        """
        Return the state of every secret that the store knows in *environment*.

        Each is as it is now; a secret made in the last five minutes may lack.
        """
        sights = self._sights(environment)
        states = {ref.name: sight.state for ref, sight in sights.items()}
        # One that was made and never written to is nothing yet.
        return {name: at for name, at in states.items() if at.next_number > 1 or at.pending}

    def history(self, ref: SecretRef) -> Sequence[Version]:
        """Return every version that AWS still has, newest first."""
        sight = self._aws.look(ref)
        if sight is None:
            return []
        found = [mark.version(ref) for mark in sight.marks.values()]
        found += {made.number: made for made in self._destroyed(sight).values()}.values()
        return sorted(found, key=lambda made: made.number, reverse=True)

    def _destroyed(self, sight: Sight) -> dict[str, Version]:
        """Return the versions without a label that AWS still has, by id."""
        found = {}
        for id_, created_at in self._aws.unlabelled(sight.ref).items():
            number, origin = number_of_id(id_), origin_of_id(id_)
            # Where the number is another's, this one lost the race for it.
            if number is not None and origin is not None and number not in sight.marks:
                found[id_] = Version(sight.ref, number, created_at, origin, (), destroyed=True)
        return found

    def histories(
        self, environment: EnvironmentName, names: Iterable[SecretName]
    ) -> Mapping[SecretName, History]:
        """Return every version of *names* with its values; what AWS let go is destroyed."""
        return self._carrier.histories(environment, names)

    def carry(self, moves: Sequence[Move]) -> None:
        """
        Write histories of another store, their newest versions where they are many.

        Raises:
            Conflict: A state is not as expected, another value has one of the numbers, or
                what is current is none of ours, code `store.drift`.
            Rejected: A value is too large, or a name not acceptable.
            OutcomeUnknown: No answer came. Call again.
        """
        self._carrier.carry(moves, limit_bytes=self.capabilities.max_value_bytes)

    # --- drift --------------------------------------------------------------------------

    def drifts(
        self,
        environment: EnvironmentName,
        declared: Mapping[SecretName, Collection[FieldName]] | None = None,
    ) -> Mapping[SecretName, Drift]:
        """
        Return what was changed behind Keyturn's back, by secret.

        Args:
            declared: Secrets and their fields; of these also what is live already
                though Keyturn never wrote it.
        """
        sights = self._sights(environment)
        more = [SecretRef(environment, name) for name in sorted(declared or ())]
        sights |= self._aws.look_at_each([ref for ref in more if ref not in sights])
        return self._watch.drifts(sights.values(), declared or {})

    def accept(self, ref: SecretRef, fields: Collection[FieldName]) -> Version:
        """
        Take what somebody else made current as a new version of *ref*, with *fields*.

        No value is written: their version gets a number. A single field's name that
        was written to cannot be taken; `restore` puts it back.

        Raises:
            NotFound: One of *fields* is not there.
            Conflict: A version is pending.
        """
        return self._api.again(lambda: self._watch.accept(ref, tuple(sorted(fields))))

    def restore(self, ref: SecretRef) -> Version:
        """
        Make the recorded version current again where somebody else changed that.

        Raises:
            NotFound: None is recorded: after two changes AWS does not tell which it was.
        """
        return self._api.again(lambda: self._watch.restore(ref))

    # --- deletion -----------------------------------------------------------------------

    def delete(self, ref: SecretRef) -> None:
        """Schedule the secret for deletion; `undelete` takes it back for `recovery_days`."""
        self._api.again(lambda: delete(self._aws, self._copies, ref))

    def undelete(self, ref: SecretRef) -> None:
        """
        Take back a deletion whose time has not come.

        Raises:
            NotFound: There is no such secret any more.
        """
        self._api.again(lambda: undelete(self._aws, self._copies, ref, where=self.where))

    # --- inside -------------------------------------------------------------------------

    def _sights(self, environment: EnvironmentName) -> dict[SecretRef, Sight]:
        return self._aws.look_at_each(self._aws.names(environment))

    def _copied(self, ref: SecretRef) -> tuple[FieldName, ...]:
        sight = self._aws.look_at_each([ref]).get(ref)
        mark = None if sight is None else sight.recorded
        return () if mark is None else self._copies.fields(mark)

    def _known(self, sight: Sight, number: int) -> Mark:
        mark = sight.marks.get(number)
        if mark is not None:
            return mark
        if 0 < number < sight.next_number:
            raise _rules.destroyed_error(sight.state, number)
        raise _rules.no_version(sight.ref, number)
