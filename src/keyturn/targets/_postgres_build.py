"""From what the manifest says to the steps of a PostgreSQL login."""

from __future__ import annotations

from keyturn.core.ports import KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.targets._postgres_connection import PostgresTarget
from keyturn.targets._postgres_in_place import InPlace
from keyturn.targets._postgres_login import PASSWORD, USERNAME
from keyturn.targets._postgres_two_logins import TwoLogins

__all__ = ["build"]

_NOBODY = SecretValue(b"")


def build(context: KindContext) -> RotationKind:
    """
    Return the steps for a login by its strategy; two logins unless it says otherwise.

    Without an administering login only `probe` works.
    """
    asked = context.target
    admin = context.admin or {}
    logins = asked.get("logins")
    target = PostgresTarget(
        host=str(asked["host"]),
        port=int(str(asked.get("port", 5432))),
        database=str(asked.get("database", "postgres")),
        sslmode=str(asked.get("sslmode", "prefer")),
        admin_user=admin.get(USERNAME, _NOBODY).reveal_text(),
        admin_password=admin.get(PASSWORD, _NOBODY),
        admin_secret=context.admin_name,
        owner_role=str(asked["owner_role"]) if "owner_role" in asked else None,
        logins=(str(logins[0]), str(logins[1])) if isinstance(logins, tuple) else None,
        ca_file=str(asked["sslrootcert"]) if "sslrootcert" in asked else None,
        reserved={
            values[USERNAME].reveal_text(): where
            for where, values in context.siblings.items()
            if USERNAME in values
        },
    )

    def make_password() -> SecretValue:
        return context.make()[PASSWORD]

    if context.strategy == "in-place":
        return InPlace(target, make_password=make_password)
    return TwoLogins(target, make_password=make_password)
