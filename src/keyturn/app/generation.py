"""Use case: generate the values that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from keyturn.app.delivery import refresh_bundle
from keyturn.app.secrets import (
    missing_secrets,
    refuse_during_rotation,
    secrets_named,
    store_current,
)
from keyturn.app.session import Session
from keyturn.audit.events import Action
from keyturn.core.entropy import Entropy
from keyturn.core.ids import EnvironmentName, FieldName
from keyturn.core.model import Origin, SecretRef, Values
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, UsageError
from keyturn.generate import (
    GENERATED_KINDS,
    Format,
    Policy,
    Settings,
    entropy_bits,
    generate_fields,
    policy_for,
    random_value,
    require_floor,
)
from keyturn.manifest import GenerateSettings, Secret

__all__ = [
    "GenerateOutcome",
    "Generated",
    "form_policy",
    "generate",
    "make_values",
    "random_for_person",
]

RANDOM_FORMATS = tuple(str(form) for form in Format)
_RANDOM_SIZE = 32


class GenerateOutcome(StrEnum):
    """What became of one secret."""

    MADE = "made"
    TO_ROTATE = "rotate"
    TO_SUPPLY = "supply"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Generated:
    """
    What became of one secret.

    Args:
        version: The new version, where one was made.
        hint: The command that does what generation could not.
    """

    secret: Secret
    outcome: GenerateOutcome
    version: int | None = None
    hint: str = ""


def make_values(secret: Secret, *, entropy: Entropy) -> dict[FieldName, SecretValue]:
    """
    Return a new value for each field of *secret*, as the manifest asks.

    Raises:
        UsageError: A person or a vendor supplies it, or the settings are too weak.
    """
    identity = secret.identity or {}
    return generate_fields(
        str(secret.kind),
        tuple(secret.fields),
        replace(_settings(secret.generate), algorithm=_algorithm(secret)),
        entropy=entropy,
        given={field: SecretValue.from_text(text) for field, text in identity.items()},
        name=secret.name,
    )


def _algorithm(secret: Secret) -> str | None:
    found = secret.target.get("algorithm")
    return found if isinstance(found, str) else None


def _settings(asked: GenerateSettings | None) -> Settings:
    if asked is None:
        return Settings()
    return Settings(
        format=str(asked.format),
        length=asked.length,
        size_bytes=asked.bytes,
        key_bits=asked.bits,
    )


def random_for_person(
    form: str, *, size_bytes: int | None, length: int | None, entropy: Entropy
) -> tuple[SecretValue, float]:
    """
    Return one random value and its bits of entropy; nothing is stored.

    Args:
        size_bytes: For `base64`, `hex` and `url`: 32 by default.
        length: In characters, for the other formats: 32 by default.

    Raises:
        UsageError: The size is given in the other unit, or is too weak.
    """
    chosen = Format(form)
    in_bytes = chosen in (Format.BASE64, Format.HEX, Format.URL)
    given, other = (size_bytes, length) if in_bytes else (length, size_bytes)
    if other is not None:
        unit, flag = ("bytes", "--bytes") if in_bytes else ("characters", "--length")
        raise UsageError(f"`{form}` is measured in {unit}", hint=f"give `{flag}`")
    size = _RANDOM_SIZE if given is None else given
    policy = Policy(chosen, size_bytes=size) if in_bytes else Policy(chosen, length=size)
    require_floor(policy)
    return random_value(policy, entropy=entropy), entropy_bits(policy)


def generate(
    session: Session, environment: EnvironmentName, names: Sequence[str]
) -> list[Generated]:
    """
    Give a first value to every secret that lacks one, or to those *names* name.

    Nothing that has a value is touched: replacing one is a rotation. A secret
    that opens a target gets its first value by a rotation, which makes the login
    there as well.

    Raises:
        Conflict: One of *names* has a value already.
    """
    missing = missing_secrets(session, environment)
    if names:
        wanted = secrets_named(session, environment, names)
        for secret in wanted:
            if secret not in missing:
                raise Conflict(
                    f"`{environment}/{secret.name}` has a value already",
                    hint=f"`keyturn rotate {secret.name} -e {environment}` replaces it",
                )
        missing = wanted
    results = [_generate_one(session, environment, secret) for secret in missing]
    if any(result.outcome is GenerateOutcome.MADE for result in results):
        refresh_bundle(session, environment)
    return results


def _generate_one(session: Session, environment: EnvironmentName, secret: Secret) -> Generated:
    ref = SecretRef(environment, secret.name)
    refuse_during_rotation(session, ref)
    where = f"-e {environment}"
    if session.store.state(ref).current is not None:
        hint = f"`keyturn set {secret.name}.FIELD {where}` completes it"
        return Generated(secret, GenerateOutcome.PARTIAL, hint=hint)
    supply = f"`keyturn set {secret.name} {where}`"
    if secret.kind not in GENERATED_KINDS:
        return Generated(secret, GenerateOutcome.TO_SUPPLY, hint=supply)
    extra = set(secret.fields) - set(secret.spec.fields) - set(secret.identifiers)
    if secret.target or (extra and not secret.spec.open_fields):
        hint = f"`keyturn rotate {secret.name} {where}` makes it, here and at its target"
        return Generated(secret, GenerateOutcome.TO_ROTATE, hint=hint)
    try:
        values: Values = make_values(secret, entropy=session.entropy)
    except UsageError as error:
        if error.code != "generate.supplied":
            raise
        return Generated(secret, GenerateOutcome.TO_SUPPLY, hint=supply)
    version = store_current(
        session, ref, values, origin=Origin.GENERATED, action=Action.VERSION_GENERATE
    )
    return Generated(secret, GenerateOutcome.MADE, version=version.number)


def form_policy(secret: Secret) -> Policy | None:
    """Return the policy that new values of *secret* are made by; None where it has none."""
    try:
        return policy_for(str(secret.kind), _settings(secret.generate))
    except UsageError:
        return None
