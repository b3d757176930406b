"""Whether a login may do what another one may, and whether the administrator may change it."""

from __future__ import annotations

from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets import _postgres_roles as roles
from keyturn.targets._postgres_connection import DENIED, Connection, PostgresTarget
from keyturn.targets._postgres_login import current_user

__all__ = ["require_acting_as", "require_administered", "require_same_rights"]


def require_acting_as(connection: Connection, owner: str) -> None:
    """
    Return where the session acts as *owner*.

    Raises:
        VerificationFailed: It acts as another role.
    """
    acting = current_user(connection)
    if acting != owner:
        raise VerificationFailed(
            f"the new login acts as `{acting}`, not as `{owner}`",
            hint=f'as a superuser: GRANT "{owner}" TO the login WITH SET TRUE',
        )


def require_same_rights(connection: Connection, *, current: str, new: str, owner: str) -> None:
    """
    Return where *new* has the rights of *current*, no fewer and no more.

    What was granted to *owner*, at whatever time, both have.

    Raises:
        VerificationFailed: One has what the other has not.
    """
    # A member of the current login has all that it has.
    if current == owner:
        return
    has, gets = roles.memberships(connection, current), roles.memberships(connection, new)
    _require_none(has - gets, member=current, other=new, owner=owner)
    _require_none(gets - has, member=new, other=current, owner=owner)
    _require_no_objects(connection, current, other=new, owner=owner)
    _require_no_objects(connection, new, other=current, owner=owner)
    lacking = roles.attributes(connection, current) - roles.attributes(connection, owner)
    if lacking:
        words = " ".join(sorted(lacking))
        raise VerificationFailed(
            f"`{current}` has {words}, and `{owner}`, as which `{new}` acts, has not",
            hint=f'as a superuser: ALTER ROLE "{owner}" {words}',
        )


def require_administered(connection: Connection, target: PostgresTarget, login: str) -> None:
    """
    Return where the administrator may alter *login*; nothing is changed by the question.

    Raises:
        Rejected: It may not.
    """
    if roles.may_change(connection, login):
        return
    user = target.admin_user
    raise Rejected(
        f"`{user}` may not change `{login}` at `{target}`, so it could not end its logins",
        hint=f'as a superuser: ALTER ROLE "{user}" CREATEROLE;'
        f' GRANT "{login}" TO "{user}" WITH ADMIN OPTION',
        code=DENIED,
    )


def _require_none(roles_held: set[str], *, member: str, other: str, owner: str) -> None:
    if not roles_held:
        return
    names = ", ".join(f"`{name}`" for name in sorted(roles_held))
    raise VerificationFailed(
        f"`{member}` is a member of {names}, and `{other}` is not",
        hint=f'grant the role to "{owner}", of which both are members, and revoke it from'
        f' "{member}"; or only revoke it',
    )


def _require_no_objects(connection: Connection, login: str, *, other: str, owner: str) -> None:
    count = roles.direct_rights(connection, login)
    if not count:
        return
    raise VerificationFailed(
        f"`{login}` itself owns or was granted {count} objects that `{other}` would lack",
        hint=f'as a superuser: REASSIGN OWNED BY "{login}" TO "{owner}", and repeat its'
        f' grants for "{owner}"; then DROP OWNED BY "{login}"',
    )
