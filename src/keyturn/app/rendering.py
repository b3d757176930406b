"""Use case: the files that consumers read, and what a rotation delivers to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn import deliver
from keyturn._internal import failpoints, locks
from keyturn.app.delivery import Delivered, refresh_bundle, resolve
from keyturn.app.reloading import reload, require_ready
from keyturn.app.session import Session
from keyturn.audit import Action, Outcome
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef
from keyturn.deliver import Rendering, RenderTarget
from keyturn.errors import DeliveryError, KeyturnError, Missing
from keyturn.manifest import Consumer, Render

__all__ = ["ConsumerDelivery", "Rendered", "check_rendered", "render", "require_places"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """
    One consumer's file.

    Args:
        state: `written`, `current`, `stale`, or `foreign` where Keyturn did not write
            what stands there.
        differences: In words, how a stale copy differs; never its content.
    """

    consumer: str
    path: Path
    state: str
    differences: Sequence[str] = ()
    notes: Sequence[str] = ()


def render(
    session: Session, environment: EnvironmentName, consumer: str | None, *, replace: bool = False
) -> list[Rendered]:
    """
    Write the file of each consumer that has one, or of *consumer* alone.

    Args:
        replace: Also over files that Keyturn did not write.

    Raises:
        Missing: Required secrets have no value.
        DeliveryError: A place is not fit for values, and nothing is written; or a value
            is not fit for its format, and files before it are written.
    """
    consumers = _with_files(session, environment, consumer)
    for found in consumers:
        _look_before(session, environment, found, replace=replace)
    return [_render_one(session, environment, found, replace=replace) for found in consumers]


def _look_before(
    session: Session, environment: EnvironmentName, consumer: Consumer, *, replace: bool
) -> None:
    subject = f"{environment}/{consumer.name}"
    session.access.authorise(Action.CONSUMER_RENDER, subject, environment=environment)
    try:
        _require_place(session, environment, consumer, replace=replace)
    except DeliveryError as error:
        detail = {"path": _target(consumer.render).path, "error": error.code}
        session.access.record(Action.CONSUMER_RENDER, subject, Outcome.FAILED, detail)
        raise


def require_places(session: Session, ref: SecretRef) -> None:
    """
    Refuse where a consumer of *ref* could not be brought to a new version.

    Asked before a rotation begins: found out in the middle of one, it would have to go
    back, and could not bring it the old version then either.

    Raises:
        DeliveryError: The place is not fit for values, or holds somebody else's file; or
            what runs the consumer does not have it, or will not restart it.
    """
    for consumer in session.manifest.consumers_of(ref.environment, ref.name):
        require_ready(session, ref, consumer)
        if consumer.render is not None:
            _require_place(session, ref.environment, consumer, replace=False)


def _require_place(
    session: Session, environment: EnvironmentName, consumer: Consumer, *, replace: bool
) -> None:
    with _hinted(environment, consumer):
        deliver.require_place(session.paths.folder, _target(consumer.render), replace=replace)


@contextlib.contextmanager
def _hinted(environment: EnvironmentName, consumer: Consumer) -> Iterator[None]:
    """Name the whole command in the hint for a file that Keyturn did not write."""
    try:
        yield
    except DeliveryError as error:
        if error.code == "delivery.foreign":
            error.hint = (
                "move it away, or give `render.path` another name in keyturn.toml; "
                f"`keyturn render --consumer {consumer.name} -e {environment} --replace` "
                "writes over it"
            )
        raise


def _render_one(
    session: Session, environment: EnvironmentName, consumer: Consumer, *, replace: bool = False
) -> Rendered:
    # From reading the versions to writing the file: of two rotations at a time, the one
    # that writes last must have seen what the other one promoted.
    with locks.held(session.paths.state / "locks", f"{environment}.{consumer.name}"):
        return _render_locked(session, environment, consumer, replace=replace)


def _render_locked(
    session: Session, environment: EnvironmentName, consumer: Consumer, *, replace: bool
) -> Rendered:
    target, rendering, delivered = _rendering(session, environment, consumer)
    subject = f"{environment}/{consumer.name}"
    detail = {"path": target.path, "versions": deliver.versions_text(delivered.versions)}
    session.access.authorise(Action.CONSUMER_RENDER, subject, environment=environment)
    begun = session.access.record(Action.CONSUMER_RENDER, subject, Outcome.BEGUN, detail)
    try:
        with _hinted(environment, consumer):
            written = deliver.write_rendered(
                session.paths.folder, target, rendering, replace=replace
            )
    except KeyturnError:
        session.access.settle(begun, Outcome.FAILED)
        raise
    session.access.settle(begun, Outcome.DONE)
    return Rendered(str(consumer.name), written.path, "written", notes=written.notes)


def check_rendered(
    session: Session, environment: EnvironmentName, consumer: str | None
) -> list[Rendered]:
    """Say of each consumer's file whether it is as it would be written now."""
    results = []
    for found in _with_files(session, environment, consumer):
        target, rendering, _ = _rendering(session, environment, found)
        subject = f"{environment}/{found.name}"
        session.access.read(Action.CONSUMER_INSPECT, subject, environment=environment)
        differences = deliver.differences(session.paths.folder, target, rendering)
        results.append(
            Rendered(
                str(found.name),
                session.paths.folder / target.path,
                _state(session, target, differences),
                differences,
            )
        )
    return results


def _state(session: Session, target: RenderTarget, differences: Sequence[str]) -> str:
    if deliver.is_foreign(session.paths.folder, target):
        return "foreign"
    return "stale" if differences else "current"


def _with_files(
    session: Session, environment: EnvironmentName, consumer: str | None
) -> list[Consumer]:
    manifest = session.manifest
    if consumer is not None:
        names = [manifest.consumer_in(environment, consumer).name]
    else:
        names = list(manifest.consumers)
    found = [manifest.consumer_in(environment, name) for name in names]
    return [each for each in found if each.render is not None]


def _rendering(
    session: Session, environment: EnvironmentName, consumer: Consumer
) -> tuple[RenderTarget, Rendering, Delivered]:
    delivered = resolve(session, environment, consumer.name)
    target = _target(consumer.render)
    return target, deliver.render(target.format, delivered.variables, delivered.versions), delivered


def _target(render: Render | None) -> RenderTarget:
    if render is None:
        raise ValueError("a consumer without a file was asked for one")
    form = deliver.Format(render.format.value)
    return RenderTarget(path=render.path, format=form, mode=render.mode, owner=render.owner)


class ConsumerDelivery:
    """
    Brings every consumer of a secret to a version: the port that rotations ask.

    Consumers are taken one by one, so that a version that one of them cannot
    bear reaches no second one. Each is rendered, reloaded, and waited for; asked
    again, each is brought to the same end.

    Args:
        say: Told of each consumer as it goes.
    """

    def __init__(self, session: Session, *, say: Callable[[str], None] | None = None) -> None:
        self._session = session
        self._say = say or (lambda _: None)

    def deliver(self, ref: SecretRef, version: int) -> Sequence[str]:
        """
        Bring every consumer of *ref* to *version* and wait until each is healthy on it.

        Raises:
            KeyturnError: A consumer cannot be reached or does not come up on *version*.
        """
        session = self._session
        consumers = session.manifest.consumers_of(ref.environment, ref.name)
        # One that is reloaded may well start by `run`.
        if not session.seals_late or any(consumer.reload for consumer in consumers):
            refresh_bundle(session, ref.environment)
        notes: list[str] = []
        for consumer in consumers:
            if consumer.render is None and consumer.reload is None and consumer.health is None:
                notes.append(f"{consumer.name}: reads its environment when it starts; restart it")
                continue
            failpoints.hit("deliver.consumer")
            first = session.store.state(ref).previous is None
            notes.append(
                self._introduce(ref, consumer) if first else self._bring(ref, version, consumer)
            )
            failpoints.hit("deliver.consumer.done")
        return notes

    def _introduce(self, ref: SecretRef, consumer: Consumer) -> str:
        """
        Write the file of a consumer of a first version; there is nobody to reload.

        It was not started without this secret, or does without it until it is started
        again; and it may lack others, which do not keep this one from being born.
        """
        later = "given to it when it starts"
        if consumer.render is None:
            return f"{consumer.name}: {later}"
        try:
            _render_one(self._session, ref.environment, consumer)
        except Missing as error:
            return f"{consumer.name}: {later}; no file yet, it lacks {len(error.names)} more"
        return f"{consumer.name}: file written, {later}"

    def _bring(self, ref: SecretRef, version: int, consumer: Consumer) -> str:
        session, done = self._session, []
        delivered = resolve(session, ref.environment, consumer.name)
        if consumer.render is not None:
            self._say(f"{consumer.name}: writing {consumer.render.path}")
            done.append(self._write(ref, version, consumer))
        if consumer.reload is not None:
            self._say(f"{consumer.name}: reloading")
            subject = f"{ref.environment}/{consumer.name}"
            session.access.record(Action.CONSUMER_RELOAD, subject, Outcome.DONE)
            hidden = list(delivered.variables.values())
            done.append(reload(session, ref, version, consumer, hidden=hidden))
        if consumer.health is not None:
            self._say(f"{consumer.name}: waiting until it is healthy")
            seen = deliver.wait_healthy(
                consumer.health.url,
                consumer.health.versions,
                {ref.name: version} if consumer.health.versions else {},
                timeout_seconds=consumer.health.timeout.total_seconds(),
                clock=session.clock,
            )
            done.append(f"seen {seen}")
        return f"{consumer.name}: {', '.join(done)}"

    def _write(self, ref: SecretRef, version: int, consumer: Consumer) -> str:
        session = self._session
        try:
            _render_one(session, ref.environment, consumer)
        except DeliveryError:
            live = session.journal.live(ref)
            going_back = live is not None and live.plan.old_version == version
            if not going_back or not deliver.is_foreign(
                session.paths.folder, _target(consumer.render)
            ):
                raise
            # Nothing of ours stands there that would have to be put back.
            return "file left, keyturn did not write it"
        return "file written"
