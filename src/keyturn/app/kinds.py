"""From what the manifest says of a secret to the steps that rotate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from keyturn.app.generation import make_values
from keyturn.app.session import Session
from keyturn.core.ids import EnvironmentName, FieldName
from keyturn.core.model import SecretRef, Values
from keyturn.core.ports import KindContext, RotationKind, Supplier
from keyturn.errors import Missing, UsageError
from keyturn.manifest import Secret, SecretKind, target_spec
from keyturn.targets import build

__all__ = ["NobodyThere", "by_hand", "kind_of", "needs_target"]

_USERNAME = FieldName("username")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# A person fetches their values, so a run without one does not begin them.
_BY_HAND = frozenset({SecretKind.GUIDED, SecretKind.TWITCH_APP})
# The port of a target that names none.
_PORTS = {SecretKind.POSTGRES_LOGIN: 5432, SecretKind.REDIS_LOGIN: 6379, SecretKind.SSH_KEY: 22}


class NobodyThere:
    """The supplier of a run that has nobody to ask, such as the schedule's."""

    def supply(
        self, instructions: Sequence[str], fields: Sequence[FieldName], examine: object
    ) -> Values | None:
        """Return None."""
        del instructions, fields, examine
        return None


def by_hand(secret: Secret, environment: EnvironmentName) -> str | None:
    """Return why a run without a person does not begin *secret*; None where it may."""
    if not secret.spec.rotates:
        return "a person changes it"
    guided = secret.kind is SecretKind.STRIPE_KEY and not secret.target.get("preview")
    if guided or secret.kind in _BY_HAND:
        return f"`keyturn rotate {secret.name} -e {environment}` says what to do"
    return None


def needs_target(secret: Secret) -> str | None:
    """Return what the manifest must say before *secret* can be rotated; None where it can."""
    lacking = [key for key in target_spec(secret.kind).required if key not in secret.target]
    if not lacking:
        return None
    listed = ", ".join(f"`{key}`" for key in lacking)
    return f"describe `[secrets.{secret.name}.target]` in keyturn.toml: {listed}"


def kind_of(
    session: Session,
    environment: EnvironmentName,
    secret: Secret,
    *,
    supplier: Supplier | None = None,
    administer: bool = True,
) -> RotationKind:
    """
    Return the steps for *secret*.

    Args:
        supplier: Whom to ask for a value that only a person can fetch; None for nobody.
        administer: False where the credential is only to be tried, so that what
            administers its target is not needed.

    Raises:
        UsageError: This kind cannot be rotated, or its target is not described.
        Missing: The secret that administers its target has no value.
    """
    if not secret.spec.rotates:
        raise UsageError(
            f"a `{secret.kind}` is not rotated: a person changes it",
            hint=f"`keyturn set {secret.name} -e {environment}` stores the new one",
            code="rotation.kind",
        )
    lacking = needs_target(secret)
    if lacking is not None and administer:
        raise UsageError(
            f"the manifest does not say enough of what `{secret.name}` opens",
            hint=lacking,
            code="rotation.target",
        )
    context = KindContext(
        ref=SecretRef(environment, secret.name),
        project=session.manifest.project.name,
        protected=session.manifest.environments[environment].protected,
        fields=tuple(secret.fields),
        strategy=None if secret.strategy is None else str(secret.strategy),
        target=dict(secret.target),
        admin=_admin(session, environment, secret, required=administer),
        admin_name=_text(secret.target.get("admin")),
        grace_seconds=int(secret.grace.total_seconds()),
        make=lambda: _made(session, environment, secret),
        supplier=supplier or NobodyThere(),
        clock=session.clock,
        entropy=session.entropy,
        companions=_companions(session, environment, secret, required=administer),
        siblings=_siblings(session, environment, secret) if administer else {},
    )
    return build(str(secret.kind), context)


def _made(session: Session, environment: EnvironmentName, secret: Secret) -> Values:
    identity = secret.identity
    if secret.kind is SecretKind.POSTGRES_LOGIN:
        # The kind chooses between its two logins; what is made here is the password.
        identity = {_USERNAME: "unused", **identity}
    elif secret.kind is SecretKind.REDIS_LOGIN and _USERNAME not in identity:
        # The user stays who it is; a first one has to be named in the manifest.
        held = session.store.read_many(environment, [secret.name]).get(secret.name)
        if held is not None and _USERNAME in held.values:
            identity = {_USERNAME: held.values[_USERNAME].reveal_text(), **identity}
    return make_values(replace(secret, identity=identity), entropy=session.entropy)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _admin(
    session: Session, environment: EnvironmentName, secret: Secret, *, required: bool
) -> Values | None:
    name = _text(secret.target.get("admin"))
    if name is None:
        return None
    return _other(session, environment, name, "the administering credential", required=required)


def _companions(
    session: Session, environment: EnvironmentName, secret: Secret, *, required: bool
) -> Mapping[str, Values]:
    name = _text(secret.target.get("ca"))
    if name is None:
        return {}
    found = _other(session, environment, name, "the signing key", required=required)
    return {} if found is None else {name: found}


def _other(
    session: Session, environment: EnvironmentName, name: str, what: str, *, required: bool
) -> Values | None:
    secret = session.manifest.secret_in(environment, name)
    held = session.store.read_many(environment, [secret.name]).get(secret.name)
    lacking = [field for field in secret.fields if held is None or field not in held.values]
    if not lacking and held is not None:
        return held.values
    if not required:
        return None
    raise Missing(
        f"`{environment}/{name}`, {what}, lacks {', '.join(lacking)}",
        [f"{name}.{field}" for field in lacking],
        hint=f"`keyturn set {name} -e {environment}`",
    )


def _siblings(
    session: Session, environment: EnvironmentName, secret: Secret
) -> Mapping[str, Values]:
    """
    Return the current values of other secrets that open the same place.

    Two environments, or two secrets, may hold logins of one server; what one of them
    uses must not be given a new password as the idle login of the other.
    """
    place = _place(secret)
    if place is None:
        return {}
    found: dict[str, Values] = {}
    own = session.store.read_many(environment, [secret.name]).get(secret.name)
    for where in session.manifest.environments:
        names = [
            other.name
            for other in session.manifest.secrets_in(where)
            if other.kind is secret.kind and (where, other.name) != (environment, secret.name)
        ]
        for name, held in session.store.read_many(where, names).items():
            there = _place(session.manifest.secret_in(where, name))
            # One server may be called by many names; two that share a login with its
            # password are one for certain.
            if there == place or (own is not None and _same_login(own.values, held.values)):
                found[f"{where}/{name}"] = held.values
    return found


def _same_login(one: Values, other: Values) -> bool:
    return bool(one) and all(other.get(field) == value for field, value in one.items())


def _place(secret: Secret) -> tuple[str, int] | None:
    host = secret.target.get("host")
    if not isinstance(host, str):
        return None
    if host in _LOOPBACK:
        host = "localhost"
    return host, int(str(secret.target.get("port", _PORTS.get(secret.kind, 0))))
