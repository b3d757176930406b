"""Reading a secret's target: what the manifest says of the system whose credential is changed."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import KindContext
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError
from keyturn.manifest.durations import parse_duration

__all__ = [
    "admin_field",
    "ca_file",
    "duration_seconds",
    "faulty",
    "flag",
    "is_loopback",
    "needed_text",
    "optional_text",
    "port",
    "require_driver",
    "words",
]

_PORT_LIMIT = 65_535


def needed_text(context: KindContext, key: str, *, example: str) -> str:
    """
    Return the text of *key*.

    Raises:
        UsageError: It is missing, empty or no text.
    """
    found = optional_text(context, key)
    if found is None:
        raise faulty(context, f"does not say `{key}`", f'add {key} = "{example}"')
    return found


def optional_text(context: KindContext, key: str) -> str | None:
    """Return the text of *key*, None where it is missing or empty; raises as `needed_text`."""
    found = context.target.get(key)
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise faulty(context, f"has a `{key}` that is no text", f'write {key} = "..."')
    return found


def port(context: KindContext, default: int) -> int:
    """Return the port; raises as `needed_text`."""
    # A number, or text where a setting was filled in.
    found = context.target.get("port", default)
    text = str(found)
    if isinstance(found, bool) or not (text.isascii() and text.isdigit()):
        raise faulty(context, "has a port that is no number", f"write port = {default}")
    number = int(text[:6])
    if not 0 < number <= _PORT_LIMIT:
        raise faulty(context, "has a port that there is none of", f"write port = {default}")
    return number


def flag(context: KindContext, key: str) -> bool:
    """Return whether *key* is set, False where it is missing; raises as `needed_text`."""
    found = context.target.get(key, False)
    if found in (True, "true"):
        return True
    if found in (False, "false", ""):
        return False
    raise faulty(context, f"has a `{key}` that is neither true nor false", f"write {key} = true")


def words(context: KindContext, key: str) -> tuple[str, ...]:
    """Return the list of texts of *key*, empty where it is missing; raises as `needed_text`."""
    found = context.target.get(key, ())
    if not isinstance(found, list | tuple) or not all(isinstance(item, str) for item in found):
        raise faulty(context, f"has `{key}` that is no list of texts", f'write {key} = ["..."]')
    return tuple(found)


def duration_seconds(context: KindContext, key: str, *, example: str) -> int | None:
    """Return the duration of *key*, None where it is missing; raises as `needed_text`."""
    found = context.target.get(key)
    if found is None or found == "":
        return None
    span = parse_duration(found) if isinstance(found, str) else found
    if not isinstance(span, timedelta) or span < timedelta(0):
        raise faulty(context, f"has a `{key}` that is no duration", f'write {key} = "{example}"')
    return int(span.total_seconds())


def ca_file(context: KindContext) -> str | None:
    """Return the file of certificates to verify the server with; raises as `needed_text`."""
    found = optional_text(context, "ca_file")
    if found is not None and not Path(found).is_file():
        raise faulty(context, "names a `ca_file` that is not there", "check the path")
    return found


def admin_field(context: KindContext, admin: Values, name: str) -> SecretValue:
    """
    Return the field *name* of the administering secret.

    Raises:
        UsageError: It has no such field.
    """
    found = admin.get(FieldName(name))
    if found is None:
        raise UsageError(
            f"`{context.admin_name}`, which administers `{context.ref.name}`, has no field"
            f" `{name}`",
            hint=f"declare the field in keyturn.toml, then keyturn set {context.admin_name}",
            code="rotation.target",
        )
    return found


def faulty(context: KindContext, what: str, hint: str) -> UsageError:
    """Return the error for a target that *what* is wrong with."""
    name = context.ref.name
    return UsageError(
        f"the target of `{name}` {what}",
        hint=f"{hint} in [secrets.{name}.target] of keyturn.toml",
        code="rotation.target",
    )


def require_driver(module: str, package: str, what: str) -> None:
    """
    Return where *module* is installed.

    Raises:
        UsageError: It is not.
    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UsageError(
            f"the package {package}, which talks to {what}, is not installed",
            hint=f"pip install {package}",
            code="target.driver",
        )


def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
