"""
Use case: judge what is due, from the manifest, the journal and what is known of versions.

No value is opened and nothing is written; what only rotating needs is not even loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from keyturn.app.retired import way_out
from keyturn.core.clock import Clock
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef, Version
from keyturn.core.ports import Store
from keyturn.errors import Conflict
from keyturn.manifest import Manifest, Secret, zone
from keyturn.rotate import Journal, Rotation, State
from keyturn.rotate.schedule import (
    Decision,
    Partners,
    Subject,
    Turn,
    earliest_due,
    freeze_end,
    judge,
    pair_wait,
)

__all__ = ["FROZEN", "PAIRED", "Judged", "World", "guard_of", "judge_all"]

# The codes of what a guard refuses.
FROZEN, PAIRED = "rotation.frozen", "rotation.pair"

_TO_DO = frozenset({Turn.ROTATE, Turn.RESUME})


class World(Protocol):
    """What judging reads; a session has it all."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def store(self) -> Store: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def clock(self) -> Clock: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What the schedule says of one secret.

    Args:
        version: The current one that was judged.
        after: What comes before it, where that is to be done too.
    """

    ref: SecretRef
    decision: Decision
    version: int | None = None
    after: frozenset[SecretRef] = frozenset()

    @property
    def to_do(self) -> bool:
        """Whether a run that is here now does something about it."""
        return self.decision.turn in _TO_DO


def judge_all(
    world: World, environments: Sequence[EnvironmentName], *, everything: bool = False
) -> list[Judged]:
    """
    Return what is to be done or waits in *environments*.

    Args:
        everything: Those about which nothing is to be done as well.
    """
    now = world.clock.now()
    opened = {rotation.ref: rotation for rotation in world.journal.all_live()}
    found: list[Judged] = []
    for environment in environments:
        found += _Scene(world, environment, opened, now).judged(everything=everything)
    return found


class _Scene:
    """One environment at one moment."""

    def __init__(
        self,
        world: World,
        environment: EnvironmentName,
        opened: dict[SecretRef, Rotation],
        now: datetime,
    ) -> None:
        self.world = world
        self.environment = world.manifest.environment(environment)
        self.secrets = {secret.name: secret for secret in world.manifest.secrets_in(environment)}
        self.versions = world.store.current_versions(environment, self.secrets)
        self.opened = {
            ref.name: each for ref, each in opened.items() if ref.environment == environment
        }
        self.now = now
        self.settings = world.manifest.schedule
        self.frozen_until = _frozen_until(world.manifest, environment, now)

    def judged(self, *, everything: bool) -> list[Judged]:
        names = list(self.secrets) if everything else self._worth_a_look()
        found = [self._judged(name) for name in names]
        found += [self._forgotten(name) for name in self.opened if name not in self.secrets]
        found = [each for each in found if everything or each.decision.turn is not Turn.NOTHING]
        return _one_of_a_pair(found, self.secrets)

    def _worth_a_look(self) -> list[SecretName]:
        # By far the most are young: of them nothing else is asked.
        now, settings = self.now, self.settings
        found = []
        for name, secret in self.secrets.items():
            if name in self.opened:
                found.append(name)
                continue
            version = self.versions.get(name)
            if version is None or secret.max_age is None:
                continue
            made = version.created_at
            if made > now or now >= earliest_due(made, secret.max_age, settings):
                found.append(name)
        return found

    def _judged(self, name: SecretName) -> Judged:
        ref = SecretRef(self.environment.name, name)
        version = self.versions.get(name)
        decision = judge(self._subject(ref, version), self.now, self.settings)
        return Judged(ref, decision, None if version is None else version.number)

    def _subject(self, ref: SecretRef, version: Version | None) -> Subject:
        from keyturn.app.kinds import by_hand, needs_target

        secret, opened, journal = (
            self.secrets[ref.name],
            self.opened.get(ref.name),
            self.world.journal,
        )
        person = by_hand(secret, ref.environment) or needs_target(secret)
        if not secret.automatic:
            person = "the manifest says `automatic = false`: " + self._command(secret)
        failures = [] if version is None or opened else journal.failures(ref, version.number)
        return Subject(
            ref=ref,
            max_age=secret.max_age,
            version=None if version is None else version.number,
            made_at=None if version is None else version.created_at,
            by_hand=person,
            open=opened,
            held=opened is not None and journal.is_held(opened),
            setbacks=journal.setbacks(opened) if opened and opened.state is State.STUCK else 0,
            failed_at=[each.finished_at or each.updated_at for each in failures],
            failure=(failures[0].error_code or "") if failures else "",
            partners=_partners(secret, self.secrets.values(), self.versions, self.opened),
            frozen_until=self.frozen_until,
        )

    def _command(self, secret: Secret) -> str:
        reason = " --reason 'WHY'" if self.environment.protected else ""
        verb = "rotate" if secret.spec.rotates else "set"
        return f"`keyturn {verb} {secret.name} -e {self.environment.name}{reason}`"

    def _forgotten(self, name: SecretName) -> Judged:
        ref = SecretRef(self.environment.name, name)
        text = "its rotation is open, and it is no longer in the manifest: "
        text += way_out(self.world.manifest, ref)
        return Judged(ref, Decision(Turn.PERSON, text, alarming=True))


def _partners(
    secret: Secret,
    secrets: Iterable[Secret],
    versions: Mapping[SecretName, Version],
    opened: Collection[SecretName],
) -> Partners:
    if secret.pair is None:
        return Partners()
    others = [each.name for each in secrets if each.pair == secret.pair and each != secret]
    made = [versions[name].created_at for name in others if name in versions]
    rotating = next((name for name in others if name in opened), None)
    return Partners(rotating, max(made, default=None))


def _one_of_a_pair(found: list[Judged], secrets: Mapping[SecretName, Secret]) -> list[Judged]:
    """Let the longest due of each pair go, and the others wait for it."""
    first: dict[str, Judged] = {}
    rotating = [each for each in found if each.decision.turn is Turn.ROTATE]
    for each in sorted(rotating, key=lambda each: (each.decision.at or each.ref, each.ref)):
        pair = secrets[each.ref.name].pair
        if pair is not None:
            first.setdefault(pair, each)
    goes = {each.ref for each in first.values()}

    def settled(each: Judged) -> Judged:
        pair = secrets[each.ref.name].pair if each.ref.name in secrets else None
        if each.decision.turn is not Turn.ROTATE or pair is None or each.ref in goes:
            return each
        text = f"`{first[pair].ref.name}`, of its pair, goes first"
        return replace(each, decision=Decision(Turn.WAIT, text))

    return [settled(each) for each in found]


def _frozen_until(
    manifest: Manifest, environment: EnvironmentName, now: datetime
) -> datetime | None:
    where = manifest.environment(environment)
    return freeze_end(where.freeze, zone(where.timezone), now) if where.freeze else None


def guard_of(world: World, ref: SecretRef) -> Callable[[], None]:
    """
    Return what raises where a rotation of *ref* may not begin, called as it begins.

    Judged together, two of a pair both see that nobody rotates; and a run may last into
    a freeze. Inside the transaction that begins the rotation there is no such gap.
    """
    manifest = world.manifest

    def guard() -> None:
        now = world.clock.now()
        _require_no_freeze(world, ref)
        secret = manifest.secret_in(ref.environment, ref.name)
        if secret.pair is None:
            return
        pair = [each for each in manifest.secrets_in(ref.environment) if each.pair == secret.pair]
        versions = world.store.current_versions(ref.environment, [each.name for each in pair])
        opened = {
            each.ref.name
            for each in world.journal.all_live()
            if each.ref.environment == ref.environment and each.ref != ref
        }
        wait = pair_wait(_partners(secret, pair, versions, opened), now, manifest.schedule)
        if wait is not None:
            raise Conflict(f"`{ref}` waits: {wait.reason}", code=PAIRED)

    return guard


def _require_no_freeze(world: World, ref: SecretRef) -> None:
    if _frozen_until(world.manifest, ref.environment, world.clock.now()) is not None:
        raise Conflict(f"`{ref}` waits: a freeze has begun", code=FROZEN)
