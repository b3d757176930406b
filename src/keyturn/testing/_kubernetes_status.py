"""The bodies that a Kubernetes API server answers with when it says no, and on a deletion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyturn.testing.simulators._server import Reply

__all__ = [
    "Cause",
    "Refused",
    "already_exists",
    "bad_request",
    "conflict",
    "failure",
    "invalid",
    "not_found",
    "success",
]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """A request is answered with *reply* and changes nothing."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault of an object: where, of what sort, and in words."""

    field: str
    reason: str
    message: str

    def shown(self) -> dict[str, str]:
        """Return it as the API writes it."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


def failure(
    code: int,
    message: str,
    *,
    reason: str | None = None,
    details: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return a `Status` that says no."""
    body: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or _REASONS[code],
        "code": code,
    }
    if details:
        body["details"] = dict(details)
    return body


def success(resource: str, name: str, uid: object) -> dict[str, object]:
    """Return the `Status` of a deletion."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": name, "kind": resource, "uid": uid},
    }


def bad_request(message: str) -> Refused:
    """Return the refusal of a request that cannot be read."""
    return Refused(Reply(400, failure(400, message)))


def not_found(resource: str, name: str) -> Refused:
    """Return the refusal for an object that is not there."""
    return Refused(
        Reply(
            404,
            failure(
                404,
                f'{resource} "{name}" not found',
                details={"name": name, "kind": resource.partition(".")[0]},
            ),
        )
    )


def already_exists(resource: str, name: str) -> Refused:
    """Return the refusal of a second object of one name."""
    return Refused(
        Reply(
            409,
            failure(
                409,
                f'{resource} "{name}" already exists',
                reason="AlreadyExists",
                details={"name": name, "kind": resource},
            ),
        )
    )


def conflict(resource: str, name: str, why: str | None = None) -> Refused:
    """Return the refusal of a change that was decided on an older state."""
    said = why or (
        "the object has been modified; please apply your changes to the latest version and"
        " try again"
    )
    return Refused(
        Reply(
            409,
            failure(
                409,
                f'Operation cannot be fulfilled on {resource} "{name}": {said}',
                details={"name": name, "kind": resource.partition(".")[0]},
            ),
        )
    )


def invalid(kind: str, name: str, causes: Sequence[Cause]) -> Refused:
    """Return the refusal of an object with faults; *causes* is not empty."""
    each = [f"{cause.field}: {cause.message}" for cause in causes]
    joined = each[0] if len(each) == 1 else f"[{', '.join(each)}]"
    return Refused(
        Reply(
            422,
            failure(
                422,
                f'{kind} "{name}" is invalid: {joined}',
                details={
                    "name": name,
                    "kind": kind,
                    "causes": [cause.shown() for cause in causes],
                },
            ),
        )
    )
