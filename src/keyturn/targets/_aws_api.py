"""
Calls to AWS: as one access key and no other, each change sent once, errors translated.

The SDK takes settings from the environment, from files of the user and from the
machine it runs on. None of that may move a rotation to another account: all of it is
switched off here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keyturn._internal import failpoints
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.session import Session

__all__ = ["ABSENT", "DENIED", "LIMIT", "LOGIN_REFUSED", "AwsKey", "AwsTarget", "call"]

ABSENT = "target.absent"
DENIED = "target.denied"
LIMIT = "target.limit"
LOGIN_REFUSED = "target.login-refused"

_TIMEOUT_SECONDS = 10
_READ_ATTEMPTS = 3
_WORDS_LIMIT = 200
_SERVER_FAULT = 500
# The key is not known, or not with this secret.
_REFUSALS = frozenset(
    {"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)
_SKEWED = frozenset({"RequestExpired", "RequestTimeTooSkewed", "ExpiredToken"})
_SKEWED_WORDS = ("Signature expired", "Signature not yet current")
_DENIALS = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_THROTTLES = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "SlowDown"})


class AwsTarget:
    """
    Where the calls go.

    Args:
        endpoint_url: Of an emulator; AWS itself where None.
    """

    def __init__(self, region: str, endpoint_url: str | None) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        # It holds what AWS's services look like, which takes long to read, and no key.
        self._session: Session | None = None

    def __str__(self) -> str:
        return "AWS" if self.endpoint_url is None else str(urlsplit(self.endpoint_url).netloc)

    def session(self) -> Session:
        """Return the SDK's session, which takes nothing from its surroundings."""
        from botocore.session import Session

        if self._session is None:
            self._session = Session(session_vars=_blind(Session.SESSION_VARIABLES))
        return self._session


@dataclass(frozen=True, slots=True)
class AwsKey:
    """
    Who calls.

    Args:
        id: The access key id; it is no secret.
        whose: For messages, such as "the administrator `aws-admin`".
    """

    id: str
    secret: SecretValue
    whose: str


def call(
    target: AwsTarget,
    key: AwsKey,
    service: str,
    action: str,
    parameters: Mapping[str, object] | None = None,
    *,
    point: str | None = None,
) -> Mapping[str, Any]:
    """
    Make one call and return its answer.

    Args:
        action: As the SDK spells it: `create_access_key`.
        point: The call changes something; names the failpoints `aws.POINT.call` and
            `.called`.

    Raises:
        Unavailable: No answer, and nothing happened.
        OutcomeUnknown: No answer to a change.
        Rejected: AWS answered no.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if point is not None:
        failpoints.hit(f"aws.{point}.call")
    try:
        client = _client(target, key, service, attempts=_READ_ATTEMPTS if point is None else 1)
        try:
            answer: Mapping[str, Any] = getattr(client, action)(**(parameters or {}))
        finally:
            client.close()
    except ClientError as error:
        # Without its cause: AWS repeats parts of what was signed.
        raise _refusal(target, key, action, error, changing=point is not None) from None
    except BotoCoreError as error:
        raise _silence(target, action, error, changing=point is not None) from None
    if point is not None:
        failpoints.hit(f"aws.{point}.called")
    return answer


def _client(target: AwsTarget, key: AwsKey, service: str, *, attempts: int) -> Any:
    from botocore.config import Config

    return target.session().create_client(
        service,
        region_name=target.region,
        endpoint_url=target.endpoint_url,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret.reveal_text(),
        verify=True,
        config=Config(
            connect_timeout=_TIMEOUT_SECONDS,
            read_timeout=_TIMEOUT_SECONDS,
            # A change that is sent twice makes two keys.
            retries={"total_max_attempts": attempts, "mode": "standard"},
            proxies={},
        ),
    )


def _blind(variables: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    # (name in a file, variable of the environment, default, conversion): the last two stay.
    blind = {name: (None, None, *entry[2:]) for name, entry in variables.items()}
    for file in ("config_file", "credentials_file"):
        blind[file] = (None, None, os.devnull, None)
    blind["ignore_configured_endpoint_urls"] = (None, None, True, None)
    return blind


def _refusal(
    target: AwsTarget, key: AwsKey, action: str, error: ClientError, *, changing: bool
) -> KeyturnError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = str(error.response.get("Error", {}).get("Message", ""))
    words = " ".join(said.replace(key.secret.reveal_text(), "***").split())[:_WORDS_LIMIT]
    name = _api_name(action)
    if code in _SKEWED or any(part in said for part in _SKEWED_WORDS):
        # AWS gives a wrong clock the code of a wrong secret, and it proves nothing.
        return Rejected(
            f"{target} does not take the time of `{name}`: {code}",
            hint="set this machine's clock right, then run the command again",
            code="target.clock",
        )
    if code in _REFUSALS:
        return Rejected(
            f"{target} does not accept the access key of {key.whose}: {code}",
            hint="check that the key is active and its secret whole",
            code=LOGIN_REFUSED,
        )
    if code in _DENIALS:
        return Rejected(
            f"{target} denies `{name}` to {key.whose}: {words}",
            hint=f"allow `{name}` on the user by a policy, and see that none denies it",
            code=DENIED,
        )
    if code in _THROTTLES or (status >= _SERVER_FAULT and not changing):
        return Unavailable(
            f"{target} does not serve `{name}` now: {code}",
            hint="nothing was changed; run the command again later",
            code="target.unavailable",
        )
    if status >= _SERVER_FAULT:
        return _unknown(target, name, code)
    known = {"NoSuchEntity": ABSENT, "LimitExceeded": LIMIT}
    return Rejected(
        f"{target} answered to `{name}`: {code}: {words}", code=known.get(code, "target.rejected")
    )


def _silence(target: AwsTarget, action: str, error: Exception, *, changing: bool) -> KeyturnError:
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        ParamValidationError,
        SSLError,
    )

    why, name = type(error).__name__, _api_name(action)
    if isinstance(error, ParamValidationError):
        return Rejected(
            f"`{name}` was not sent: a name in the target is not one of AWS",
            hint="check `user` and `region` in the secret's target",
            code="target.rejected",
        )
    if changing and not isinstance(error, ConnectTimeoutError | EndpointConnectionError | SSLError):
        return _unknown(target, name, why)
    return Unavailable(
        f"{target} cannot be reached for `{name}`: {why}",
        hint="check the network, and region and endpoint_url in the secret's target",
        code="target.unavailable",
    )


def _unknown(target: AwsTarget, name: str, why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{target} gave no answer to `{name}` ({why}): it may have been done",
        hint="run the command again: it asks what is true first",
    )


def _api_name(action: str) -> str:
    return "".join(part.capitalize() for part in action.split("_"))
