"""What needs a person's attention in an environment, one notice a secret at most."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef, Version
from keyturn.manifest import Priority, Secret
from keyturn.notify import Level, Notice, level_of_age
from keyturn.notify.digest import moment, span
from keyturn.rotate import Rotation, State, Step
from keyturn.rotate.schedule import earliest_due

__all__ = ["notices_of"]

# How the targets say that what was ended is still accepted.
_ALIVE = frozenset({"target.still-works", "verification.failed"})
# A rotation that nobody went on with for so long was forgotten.
_FORGOTTEN = timedelta(days=1)
_URGENCY = {word: place for place, word in enumerate(Priority)}
# What the schedule does by itself needs nobody before it is overdue.
_TENDED = frozenset({Level.FORTNIGHT, Level.WEEK, Level.DUE})


def notices_of(
    session: Session,
    environment: EnvironmentName,
    *,
    tended: bool,
    failures: Mapping[SecretName, str],
) -> list[Notice]:
    """
    Return what needs attention in *environment*, the most urgent first.

    Args:
        tended: `keyturn tick` runs here, so what it rotates by itself needs nobody when
            it is due.
        failures: Why the rotation that was just tried failed, by secret; never a value.
    """
    look = _Look(session, environment, tended=tended, failures=failures)
    found = look.forgotten()
    for secret in session.manifest.secrets_in(environment):
        found += look.at(secret)
    return sorted(found, key=lambda notice: notice.order)


class _Look:
    """What is true of an environment now, read once."""

    def __init__(
        self,
        session: Session,
        environment: EnvironmentName,
        *,
        tended: bool,
        failures: Mapping[SecretName, str],
    ) -> None:
        self._session = session
        self._environment = environment
        self._tended = tended
        self._failures = failures
        self._now = session.clock.now()
        names = [secret.name for secret in session.manifest.secrets_in(environment)]
        self._versions = session.store.current_versions(environment, names)
        self._open = {
            rotation.ref.name: rotation
            for rotation in session.journal.all_live()
            if rotation.ref.environment == environment
        }

    def at(self, secret: Secret) -> list[Notice]:
        """Return the notice of *secret*; empty where nothing is the matter."""
        rotation = self._open.get(secret.name)
        if rotation is not None:
            return self._of_rotation(secret, rotation)
        version = self._versions.get(secret.name)
        if version is None:
            return []
        due_at = None if secret.max_age is None else version.created_at + secret.max_age
        return self._of_failure(secret, version, due_at) or self._of_age(secret, version, due_at)

    def forgotten(self) -> list[Notice]:
        """Return the notices of rotations whose secret the manifest no longer has."""
        declared = {secret.name for secret in self._session.manifest.secrets_in(self._environment)}
        text = "its rotation is open, and keyturn.toml no longer has it: put it back and resume it,"
        text += " or end the rotation where it is and look at the target"
        reason = self._reason()
        return [
            Notice(
                ref=rotation.ref,
                level=Level.STUCK,
                about=rotation.id,
                text=f"{text}; begun {moment(rotation.started_at)}",
                command=f"keyturn rotate {name} -e {self._environment} --give-up{reason}",
                since=rotation.updated_at,
                owner=self._session.manifest.project.owner,
            )
            for name, rotation in self._open.items()
            if name not in declared
        ]

    def _of_rotation(self, secret: Secret, rotation: Rotation) -> list[Notice]:
        since, step = rotation.updated_at, rotation.step
        begun = f"begun {moment(rotation.started_at)}"
        # Before the reason, which may be long and cut.
        in_use = f" ({self._in_use(rotation)})"
        why = f": {rotation.error}" if rotation.error else ""
        if rotation.state is State.STUCK:
            if _is_alive(rotation):
                text = f"the old credential is still accepted{in_use}{why}; rotation {begun}"
                return [self._notice(secret, Level.ALARM, rotation.id, text, since)]
            text = f"its rotation is stuck at `{step}`{in_use}{why}; {begun}"
            return [self._notice(secret, Level.STUCK, rotation.id, text, since)]
        if rotation.waits_for_person:
            text = f"its rotation waits for a person at `{step}`{in_use}{why}; {begun}"
            if rotation.started_at <= self._now:
                text += f", {span(self._now - rotation.started_at)} ago"
            # At another step it asks for something else.
            about = f"{rotation.id}/{step}"
            return [self._notice(secret, Level.WAITING, about, text, since)]
        resumes = max(rotation.wait_until or since, since)
        if self._now >= resumes + _FORGOTTEN and not self._session.journal.is_held(rotation):
            text = f"its rotation was interrupted at `{step}`{in_use} and nobody went on with it"
            text += f"; {begun}"
            return [self._notice(secret, Level.STUCK, rotation.id, text, since)]
        return []

    def _of_failure(
        self, secret: Secret, version: Version, due_at: datetime | None
    ) -> list[Notice]:
        about = f"v{version.number}"
        reason = self._failures.get(secret.name)
        if reason is not None:
            text = f"its rotation failed: {reason}{_due_words(due_at, self._now)}"
            return [self._notice(secret, Level.FAILED, about, text, due_at or self._now)]
        ref, settings = SecretRef(self._environment, secret.name), self._session.manifest.schedule
        # Of what is young nothing is asked: by far the most are.
        if secret.max_age is None or self._now < earliest_due(
            version.created_at, secret.max_age, settings
        ):
            return []
        failures = self._session.journal.failures(ref, version.number)
        last = next((each for each in failures if each.state is State.ROLLED_BACK), None)
        if last is None:
            return []
        since = last.finished_at or last.updated_at
        in_use = "is in use"
        if not last.plan.reversible:
            in_use += ", and may have ended at its vendor"
        text = (
            f"its rotation failed {moment(since)}: {last.error}; the old credential "
            f"{in_use}{_due_words(due_at, self._now)}"
        )
        return [self._notice(secret, Level.FAILED, about, text, since)]

    def _of_age(self, secret: Secret, version: Version, due_at: datetime | None) -> list[Notice]:
        if due_at is None or secret.max_age is None:
            return []
        level = level_of_age(due_at, secret.max_age, self._now)
        if level is None:
            return []
        if self._tended and level in _TENDED and _is_automatic(secret, self._environment):
            return []
        text = f"version {version.number} of {moment(version.created_at)}"
        text += _due_words(due_at, self._now)
        return [self._notice(secret, level, f"v{version.number}", text, due_at)]

    def _notice(
        self, secret: Secret, level: Level, about: str, text: str, since: datetime
    ) -> Notice:
        consumers = self._session.manifest.consumers_of(self._environment, secret.name)
        return Notice(
            ref=SecretRef(self._environment, secret.name),
            level=level,
            about=about,
            text=text,
            command=self._command(secret),
            since=since,
            owner=secret.owner or self._session.manifest.project.owner,
            consumers=[str(consumer.name) for consumer in consumers],
            place=_URGENCY[secret.priority],
        )

    def _command(self, secret: Secret) -> str:
        where = f"{secret.name} -e {self._environment}{self._reason()}"
        if secret.name in self._open:
            return f"keyturn rotate --resume {where}"
        return f"keyturn rotate {where}" if secret.spec.rotates else f"keyturn set {where}"

    def _reason(self) -> str:
        protected = self._session.manifest.environments[self._environment].protected
        return " --reason 'WHY'" if protected else ""

    def _in_use(self, rotation: Rotation) -> str:
        """Return which of the two credentials is in use while *rotation* is open."""
        held = self._versions.get(rotation.ref.name)
        if held is None:
            return "no version is in use"
        which = ""
        if held.number == rotation.new_version:
            which = ", the new one,"
        elif held.number == rotation.plan.old_version:
            which = ", the old one,"
        return f"version {held.number}{which} is in use"


def _is_automatic(secret: Secret, environment: EnvironmentName) -> bool:
    # Brings every kind's module, which a run without anything due does not need.
    from keyturn.app.kinds import by_hand, needs_target

    if not secret.automatic or by_hand(secret, environment) is not None:
        return False
    return needs_target(secret) is None


def _is_alive(rotation: Rotation) -> bool:
    return rotation.step is Step.PROVE and rotation.error_code in _ALIVE


def _due_words(due_at: datetime | None, now: datetime) -> str:
    if due_at is None:
        return ""
    if now < due_at:
        return f", due {moment(due_at)}, in {span(due_at - now)}"
    return f", due since {moment(due_at)}, {span(now - due_at)} ago"
