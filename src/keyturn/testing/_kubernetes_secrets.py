"""What a Kubernetes API server makes of a Secret, and what it does not take: pure."""

from __future__ import annotations

import base64
import binascii
import json
import re

from keyturn.testing._kubernetes_fields import Object, as_mapping
from keyturn.testing._kubernetes_status import Cause, bad_request, invalid

__all__ = ["MAX_DATA_BYTES", "check_name", "check_secret", "normal_secret"]

MAX_DATA_BYTES = 1_048_576

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME = 253
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    " '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used"
    " for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g."
    " 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is"
    " '[-._a-zA-Z0-9]+')"
)
_FROZEN = "Forbidden: field is immutable when `immutable` is set"
_NEEDED = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def normal_secret(given: Object) -> Object:
    """
    Return *given* as it is stored: `stringData` in `data`, base64 in its one form.

    Raises:
        Refused: A value is not base64, or of another type than the API publishes.
    """
    result = {name: value for name, value in given.items() if name != "stringData"}
    data = {
        key: base64.b64encode(_decoded(value)).decode()
        for key, value in _map(given, "data").items()
    }
    for key, text in _map(given, "stringData").items():
        if not isinstance(text, str):
            raise _unreadable("json: cannot unmarshal into Go struct field Secret.stringData")
        data[key] = base64.b64encode(text.encode()).decode()
    result.pop("data", None)
    if data:
        result["data"] = data
    result["type"] = result.get("type") or "Opaque"
    if not isinstance(result.get("immutable"), bool):
        if result.get("immutable") is not None:
            raise _unreadable("json: cannot unmarshal into Go struct field Secret.immutable")
        result.pop("immutable", None)
    return result


def check_name(kind: str, name: str) -> None:
    """
    Refuse a name that no object can have.

    Raises:
        Refused: It is none.
    """
    if len(name) > _MAX_NAME or not _SUBDOMAIN.fullmatch(name):
        said = f'Invalid value: "{name}": {_NAME_RULE}'
        raise invalid(kind, name, [Cause("metadata.name", "FieldValueInvalid", said)])


def check_secret(new: Object, live: Object | None) -> None:
    """
    Refuse what a Secret cannot be, or cannot become from *live*.

    Raises:
        Refused: It tells every fault.
    """
    causes = _faults(new)
    if live is not None:
        causes += _changes(new, live)
    if causes:
        name = str(as_mapping(new.get("metadata")).get("name", ""))
        raise invalid("Secret", name, causes)


def _faults(new: Object) -> list[Cause]:
    data = as_mapping(new.get("data"))
    causes = [
        Cause(f"data[{key}]", "FieldValueInvalid", f'Invalid value: "{key}": {_KEY_RULE}')
        for key in data
        if not _KEY.fullmatch(key)
    ]
    if sum(len(base64.b64decode(str(value))) for value in data.values()) > MAX_DATA_BYTES:
        said = f"Too long: may not be more than {MAX_DATA_BYTES} bytes"
        causes.append(Cause("data", "FieldValueTooLong", said))
    causes += [
        Cause(f"data[{key}]", "FieldValueRequired", "Required value")
        for key in _NEEDED.get(str(new.get("type")), ())
        if key not in data
    ]
    docker = data.get(".dockerconfigjson")
    if new.get("type") == "kubernetes.io/dockerconfigjson" and docker is not None:
        try:
            json.loads(base64.b64decode(str(docker)))
        except ValueError:
            said = 'Invalid value: "<secret contents redacted>": invalid character'
            causes.append(Cause("data[.dockerconfigjson]", "FieldValueInvalid", said))
    return causes


def _changes(new: Object, live: Object) -> list[Cause]:
    causes = []
    if new.get("type") != live.get("type"):
        said = f'Invalid value: "{new.get("type")}": field is immutable'
        causes.append(Cause("type", "FieldValueInvalid", said))
    if live.get("immutable") is True:
        if new.get("immutable") is not True:
            causes.append(Cause("immutable", "FieldValueForbidden", _FROZEN))
        if as_mapping(new.get("data")) != as_mapping(live.get("data")):
            causes.append(Cause("data", "FieldValueForbidden", _FROZEN))
    return causes


def _map(given: Object, name: str) -> Object:
    found = given.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _unreadable(f"json: cannot unmarshal into Go struct field Secret.{name}")
    return found


def _decoded(value: object) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise _unreadable("json: cannot unmarshal into Go struct field Secret.data of type []uint8")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        good = re.match(r"[A-Za-z0-9+/]*", value)
        at = 0 if good is None else good.end()
        raise _unreadable(f"illegal base64 data at input byte {at}") from None


def _unreadable(why: str) -> Exception:
    return bad_request(f'Secret in version "v1" cannot be handled as a Secret: {why}')
