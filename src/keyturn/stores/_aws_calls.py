"""
Calls to AWS Secrets Manager: each sent by us alone, bounded, its errors ours.

The SDK's own retries are off: a call that changes something is sent once, and where
no answer came the caller asks what is true. Only what AWS certainly did not do
(throttled, not connected) is sent again, for `WAIT_SECONDS` at most.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.errors import (
    Conflict,
    InternalError,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from keyturn.stores._place import MARK_CODE

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = [
    "ABSENT",
    "DELETED",
    "DENIED",
    "EXISTS",
    "INVALID",
    "WAIT_SECONDS",
    "Pauses",
    "SecretsApi",
    "deleted_error",
    "entry_error",
]

ABSENT: Final = "store.absent"
DELETED: Final = "store.deleted"
DENIED: Final = "store.denied"
EXISTS: Final = "store.exists"
INVALID: Final = "store.invalid"

WAIT_SECONDS: Final = 10.0
_CONNECT_SECONDS = 5
_READ_SECONDS = 10
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_SERVER_FAULT = 500

_THROTTLES = frozenset(
    {
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_DENIALS = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_STRANGERS = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SKEWED_WORDS = ("Signature expired", "Signature not yet current")
_DELETED_WORDS = ("marked for deletion", "marked deleted", "scheduled for deletion")
_FAULTS = frozenset({"InternalServiceError", "InternalFailure", "ServiceUnavailable"})
T = TypeVar("T")

_ACTION = re.compile(r"(?:secretsmanager|kms):[A-Za-z]+")


class Pauses:
    """
    Waits between tries, jittered and longer each time, within *limit_seconds* in all.

    Iterating gives once for every try that is left; the wait comes before all but the first.
    """

    def __init__(self, clock: Clock, entropy: Entropy, limit_seconds: float) -> None:
        self._clock = clock
        self._entropy = entropy
        self._limit_seconds = limit_seconds

    def __iter__(self) -> Iterator[None]:
        end = self._clock.monotonic() + self._limit_seconds
        longest = _FIRST_PAUSE_SECONDS
        yield
        while True:
            pause = longest * (1 + self._entropy.random_bytes(1)[0] / 255) / 2
            if self._clock.monotonic() + pause > end:
                return
            self._clock.sleep(pause)
            longest = min(_LONGEST_PAUSE_SECONDS, longest * 2)
            yield


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, for what is said of it: which secret of AWS, and whether it changes anything."""

    action: str
    name: str
    changing: bool
    where: str

    @property
    def api_name(self) -> str:
        return "".join(part.capitalize() for part in self.action.split("_"))


class SecretsApi:
    """
    One account and region, for any thread.

    Args:
        endpoint_url: Of an emulator or a private endpoint; AWS itself where None.
        profile: Of the user's AWS settings; the SDK's usual search where None.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None,
        profile: str | None,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.where = "AWS" if endpoint_url is None else str(urlsplit(endpoint_url).netloc)
        self._region = region
        self._endpoint_url = endpoint_url
        self._profile = profile
        self._clock = clock
        self._entropy = entropy
        self._client: Any = None
        # Guards `_client`: the SDK's session is not for two threads at once.
        self._lock = threading.Lock()

    def pauses(self) -> Pauses:
        """Return the waits of one operation that is tried again."""
        return Pauses(self._clock, self._entropy, WAIT_SECONDS)

    def call(
        self, action: str, name: str, *, point: str | None = None, **parameters: object
    ) -> Mapping[str, Any]:
        """
        Make one call and return its answer.

        Args:
            action: As the SDK spells it: `get_secret_value`.
            name: Of the secret in AWS, for messages.
            point: The call changes something; names the failpoints
                `store.aws.POINT.call` and `.called`.

        Raises:
            Unavailable: AWS did not do it, and does not for now.
            OutcomeUnknown: A change got no answer.
            NotFound: `store.absent`.
            Conflict: `store.exists`.
            Rejected: AWS answered no.
        """
        call = _Call(action, name, point is not None, self.where)
        error: KeyturnError | None = None
        for _ in self.pauses():
            if point is not None:
                failpoints.hit(f"store.aws.{point}.call")
            try:
                answer = self._send(call, parameters)
            except Unavailable as unavailable:
                error = unavailable
                continue
            if point is not None:
                failpoints.hit(f"store.aws.{point}.called")
            return answer
        raise error or _away(call, "no answer")

    def again(self, act: Callable[[], T]) -> T:
        """Do *act*; where somebody else was first or no answer came, look again and redo it."""
        last: KeyturnError | None = None
        for _ in self.pauses():
            try:
                return act()
            except (Conflict, OutcomeUnknown) as error:
                if isinstance(error, Conflict) and error.code != MARK_CODE:
                    raise
                last = error
        raise last or InternalError("a write was given up without a reason")

    def endpoint(self) -> tuple[str, str, str | None]:
        """Return where calls go, to which region, and the file they verify it with."""
        from botocore.httpsession import get_cert_path

        meta = self._connected().meta
        return str(meta.endpoint_url), str(meta.region_name), get_cert_path(True)

    def close(self) -> None:
        """Let connections go."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _send(self, call: _Call, parameters: Mapping[str, object]) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._connected()
            answer: Mapping[str, Any] = getattr(client, call.action)(**parameters)
        except ClientError as error:
            # Without its cause: AWS may repeat what it was given.
            raise _refusal(call, error) from None
        except BotoCoreError as error:
            raise _silence(call, error) from None
        return answer

    def _connected(self) -> Any:
        from botocore.config import Config
        from botocore.session import Session

        with self._lock:
            if self._client is None:
                session = Session(profile=self._profile)
                # Credentials may come from the user's settings; where values go may not.
                session.set_config_variable("ignore_configured_endpoint_urls", True)
                self._client = session.create_client(
                    "secretsmanager",
                    region_name=self._region,
                    endpoint_url=self._endpoint_url,
                    verify=True,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries={"total_max_attempts": 1, "mode": "standard"},
                    ),
                )
            return self._client


def deleted_error(name: str, where: str) -> Rejected:
    """Return the error for a secret that waits for its deletion."""
    return Rejected(
        f"`{name}` is scheduled for deletion in {where}",
        hint=f"`aws secretsmanager restore-secret --secret-id {name}` brings it back, "
        "until its recovery window ends; after that the name is free",
        code=DELETED,
    )


def entry_error(name: str, code: str, where: str) -> KeyturnError:
    """Return the error for one secret that a read of many could not give."""
    return _by_code(_Call("get_secret_value", name, False, where), code, "", 400)


def _refusal(call: _Call, error: ClientError) -> KeyturnError:
    said = error.response.get("Error", {})
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return _by_code(call, str(said.get("Code", "")), str(said.get("Message", "")), status)


def _by_code(call: _Call, code: str, words: str, status: int) -> KeyturnError:
    if code in _THROTTLES:
        return Unavailable(
            f"{call.where} throttles `{call.api_name}`: {code}",
            hint="nothing was changed; run the command again later",
        )
    if any(part in words for part in _SKEWED_WORDS):
        return Rejected(
            f"{call.where} does not take the time of `{call.api_name}`",
            hint="set this machine's clock right, then run the command again",
            code="store.clock",
        )
    if code in _STRANGERS:
        return Rejected(
            f"{call.where} does not accept the credentials: {code}",
            hint="`aws sts get-caller-identity` tells who you are to AWS",
            code=DENIED,
        )
    if code in _DENIALS:
        return _denied(call, words)
    if status >= _SERVER_FAULT or code in _FAULTS:
        return _unknown(call, code) if call.changing else _away(call, code)
    return _answered_no(call, code, words)


def _answered_no(call: _Call, code: str, words: str) -> KeyturnError:
    what = f"{call.where} answered to `{call.api_name}` of `{call.name}`: {code}"
    if code == "ResourceNotFoundException":
        return NotFound(what, code=ABSENT)
    if code == "ResourceExistsException":
        return Conflict(what, code=EXISTS)
    if code == "InvalidRequestException" and any(part in words for part in _DELETED_WORDS):
        return deleted_error(call.name, call.where)
    if code in ("DecryptionFailure", "EncryptionFailure") or "KMS" in code:
        return Rejected(
            what,
            hint="see that the KMS key is enabled, and that its policy and yours allow "
            "kms:Decrypt and kms:GenerateDataKey",
            code="store.kms",
        )
    if code == "LimitExceededException":
        return Rejected(what, hint="a quota of AWS Secrets Manager is used up", code="store.limit")
    # Their words are left out: AWS may repeat what it was given.
    known = code in ("InvalidParameterException", "InvalidRequestException")
    return Rejected(what, code=INVALID if known else None)


def _denied(call: _Call, words: str) -> Rejected:
    named = _ACTION.search(words)
    action = named.group() if named else f"secretsmanager:{call.api_name}"
    return Rejected(
        f"{call.where} denies `{action}` on `{call.name}`",
        hint=f"allow `{action}` by a policy of the caller, and see that none denies it",
        code=DENIED,
    )


def _silence(call: _Call, error: Exception) -> KeyturnError:
    from botocore import exceptions as sdk

    why = type(error).__name__
    if isinstance(error, sdk.ProfileNotFound):
        return Rejected(
            "the AWS profile of the store is not known here",
            hint="`aws configure list-profiles` lists those that are",
            code=DENIED,
        )
    nobody = (
        sdk.NoCredentialsError,
        sdk.PartialCredentialsError,
        sdk.CredentialRetrievalError,
        sdk.TokenRetrievalError,
        sdk.UnauthorizedSSOTokenError,
    )
    if isinstance(error, nobody):
        return Rejected(
            f"there are no credentials for {call.where}: {why}",
            hint="`aws configure` or `aws sso login` gives some; the store's `profile` chooses",
            code=DENIED,
        )
    if isinstance(error, sdk.ParamValidationError):
        return Rejected(f"`{call.api_name}` of `{call.name}` was not sent: AWS would not take it")
    unsent = (sdk.ConnectTimeoutError, sdk.EndpointConnectionError, sdk.SSLError)
    if call.changing and not isinstance(error, unsent):
        return _unknown(call, why)
    return _away(call, why)


def _unknown(call: _Call, why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{call.where} gave no answer to `{call.api_name}` of `{call.name}` ({why}): "
        "it may have been done",
        hint="run the command again: it asks what is true first",
    )


def _away(call: _Call, why: str) -> Unavailable:
    return Unavailable(
        f"{call.where} does not answer `{call.api_name}`: {why}",
        hint="check the network, and `region` and `endpoint_url` of the store",
    )
