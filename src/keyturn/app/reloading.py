"""Use case: making consumers take up new versions, on this machine, in a cluster or in a swarm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from keyturn import deliver
from keyturn._internal import locks
from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import DeliveryError, KeyturnError
from keyturn.manifest import (
    CommandReload,
    ComposeReload,
    Consumer,
    HttpReload,
    KubernetesReload,
    SignalReload,
    StoreKind,
    SwarmReload,
    SystemdReload,
)
from keyturn.stores import Advising, OutsideStore

if TYPE_CHECKING:
    from keyturn._internal.kubernetes import KubernetesApi
    from keyturn.stores.swarm import SwarmLayout

__all__ = ["advice", "behind", "reload", "remove_unused", "require_ready"]


def reload(
    session: Session,
    ref: SecretRef,
    version: int,
    consumer: Consumer,
    *,
    hidden: Sequence[SecretValue],
) -> str:
    """
    Make *consumer* take up *version* of *ref*, and return in words what was done.

    Args:
        hidden: Values that must not show if the consumer's words are quoted.

    Raises:
        KeyturnError: It was not told, or did not come up.

    Crash safety:
        Called again for the same step of a rotation, pods are not restarted twice and
        services not updated twice; both are waited for.
    """
    match consumer.reload:
        case None:
            return "nothing to reload"
        case KubernetesReload() as asked:
            return _restart(session, ref, version, consumer, asked)
        case SwarmReload() as asked:
            swarm = _swarm(session, ref.environment)
            if swarm is None:
                return "no service has what is not in a swarm; restart it"
            with _alone(session, ref.environment, consumer):
                updater, update = _update(session, ref.environment, swarm, consumer, asked)
                return updater.update(update)
        case SignalReload() as asked:
            told: deliver.Reload = deliver.SignalReload(asked.signal, asked.pid_file)
        case CommandReload() as asked:
            told = deliver.CommandReload(asked.command)
        case SystemdReload() as asked:
            told = deliver.SystemdReload(asked.unit, asked.action.value)
        case ComposeReload() as asked:
            told = deliver.ComposeReload(asked.service, asked.file)
        case HttpReload() as asked:
            told = deliver.HttpReload(asked.url)
    with _alone(session, ref.environment, consumer):
        return deliver.reload_consumer(told, project=session.paths.folder, hidden=hidden)


def require_ready(session: Session, ref: SecretRef, consumer: Consumer) -> None:
    """
    Refuse a consumer that could not be brought to another version of *ref*; nothing is changed.

    Of a secret without a version nobody is reloaded, and whoever is to have it may not
    be there yet.

    Raises:
        DeliveryError: It is not there, or what runs it would not restart it.
        Unavailable: What runs it did not answer.
    """
    asked = consumer.reload
    if not isinstance(asked, KubernetesReload | SwarmReload):
        return
    if session.store.state(ref).current is None:
        return
    if isinstance(asked, KubernetesReload):
        with _cluster(session, ref.environment, consumer, asked) as (api, rollout):
            deliver.require_restartable(rollout, api)
        return
    swarm = _swarm(session, ref.environment)
    if swarm is not None:
        updater, update = _update(session, ref.environment, swarm, consumer, asked)
        updater.require(update)


def _require_named(
    session: Session, environment: EnvironmentName, consumer: Consumer, asked: KubernetesReload
) -> None:
    named = asked.namespace or asked.context or asked.kubeconfig
    if named is None and session.store.settings(environment).kind is not StoreKind.KUBERNETES:
        raise DeliveryError(
            f"nothing says in which cluster and namespace the consumer `{consumer.name}` is, and"
            f" the store of `{environment}` is not Kubernetes",
            hint="write `namespace`, and `context` where it is not the current one, beside"
            " `kubernetes`; a `${NAME}` there may differ from one environment to the next",
            code="delivery.rollout",
        )


def advice(session: Session, environment: EnvironmentName) -> list[str]:
    """
    Return in words what a person should know of the place that the store of *environment* is.

    Raises:
        Unavailable: It did not answer.
    """
    beneath = _beneath(session, environment)
    return beneath.advice(environment) if isinstance(beneath, Advising) else []


def behind(session: Session, environment: EnvironmentName) -> Iterator[str]:
    """
    Yield in words how services of a swarm differ from what is current, or are not there.

    Raises:
        Unavailable: The swarm did not answer.
    """
    swarm = _swarm(session, environment)
    for name in session.manifest.consumers if swarm is not None else ():
        consumer = session.manifest.consumer_in(environment, name)
        if swarm is not None and isinstance(consumer.reload, SwarmReload):
            updater, update = _update(session, environment, swarm, consumer, consumer.reload)
            try:
                found = updater.differences(update)
            except DeliveryError as error:
                # It may not have been deployed yet; the next one has been.
                found = [error.message]
            yield from found


def remove_unused(session: Session, environment: EnvironmentName) -> None:
    """
    Remove the old secrets of a swarm that no service uses; where it is no swarm, nothing.

    One that is left over, because a service still uses it or nobody answered, is
    removed after the next rotation.
    """
    swarm = _swarm(session, environment)
    if swarm is not None:
        with contextlib.suppress(KeyturnError):
            swarm.remove_unused(environment)


@contextlib.contextmanager
def _alone(session: Session, environment: EnvironmentName, consumer: Consumer) -> Iterator[None]:
    """
    Keep other rotations away from *consumer*; whoever comes next finds what this one did.

    Two updates of a service would each take the other for somebody who interferes, and
    two programs that make one container anew get in each other's way.
    """
    with locks.held(session.paths.state / "locks", f"{environment}.{consumer.name}.reload"):
        yield


def _restart(
    session: Session, ref: SecretRef, version: int, consumer: Consumer, asked: KubernetesReload
) -> str:
    rotation = session.journal.live(ref)
    stamp = None if rotation is None else f"{rotation.id}.{version}"
    with _cluster(session, ref.environment, consumer, asked) as (api, rollout):
        return deliver.restart_workload(rollout, api, clock=session.clock, stamp=stamp)


def _beneath(session: Session, environment: EnvironmentName) -> object:
    """Return what the store of *environment* lies on, for what a store is not asked."""
    store = session.store.watched(environment)
    return store.layout if isinstance(store, OutsideStore) else store


@contextlib.contextmanager
def _cluster(
    session: Session, environment: EnvironmentName, consumer: Consumer, asked: KubernetesReload
) -> Iterator[tuple[KubernetesApi, deliver.RolloutReload]]:
    """Give the cluster, the store's unless the consumer has its own, and what to restart in it."""
    from keyturn._internal.kubernetes import KubernetesApi
    from keyturn.stores.kubernetes import KubernetesLayout, cluster_login

    _require_named(session, environment, consumer, asked)
    rollout = deliver.RolloutReload(
        deliver.Workload(asked.workload.value), asked.name, namespace=asked.namespace
    )
    beneath = None
    if asked.context is None and asked.kubeconfig is None:
        beneath = _beneath(session, environment)
    if isinstance(beneath, KubernetesLayout):
        yield (
            beneath.api,
            replace(rollout, namespace=asked.namespace or beneath.namespace(environment)),
        )
        return
    login = cluster_login(file=asked.kubeconfig, context=asked.context, folder=session.paths.folder)
    api = KubernetesApi(login, clock=session.clock, entropy=session.entropy)
    with contextlib.closing(api):
        yield api, rollout


def _swarm(session: Session, environment: EnvironmentName) -> SwarmLayout | None:
    if session.store.settings(environment).kind is not StoreKind.SWARM:
        return None
    from keyturn.stores.swarm import SwarmLayout

    beneath = _beneath(session, environment)
    return beneath if isinstance(beneath, SwarmLayout) else None


def _update(
    session: Session,
    environment: EnvironmentName,
    swarm: SwarmLayout,
    consumer: Consumer,
    asked: SwarmReload,
) -> tuple[deliver.ServiceUpdater, deliver.SwarmUpdate]:
    """Return what brings the services of *consumer* to what is current of its secrets."""
    keys: dict[str, bool] = {}
    for name in consumer.secrets:
        place = swarm.place(SecretRef(environment, name))
        secret = session.manifest.secret_in(environment, name)
        # What no variable carries, such as a user name, a service may know otherwise.
        keys |= {
            place.live_key(name, field): variable is None
            for field, variable in secret.fields.items()
        }
    current = swarm.current(environment)
    update = deliver.SwarmUpdate(
        asked.services,
        {key: current[key] for key in keys if key in current},
        spared=frozenset(key for key, spared in keys.items() if spared),
    )
    return (
        deliver.ServiceUpdater(swarm.address, clock=session.clock, entropy=session.entropy),
        update,
    )
