"""
Requests to a vendor's API: bounded in time and size, verified, and never in doubt.

An answer is one of four: done; a definite no; no answer and nothing happened; no
answer and it may have happened. A kind asks for the answers that it knows what to
do with (*expect*); every other one is raised as what it means:

    not connected; no answer to a read; 5xx on a read     Unavailable
    no answer to a change; 5xx or 408 on a change         OutcomeUnknown
    429                                                   waited for, else Unavailable
    401                                                   Rejected, target.login-refused
    403                                                   Rejected, target.denied
    any other 4xx; a redirect                             Rejected, target.rejected

No proxy, credential or setting is taken from the environment.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from keyturn.core.clock import Clock
from keyturn.core.ids import Token
from keyturn.core.model import SecretRef
from keyturn.core.ports import KindContext
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, OutcomeUnknown, Rejected, Unavailable, UsageError
from keyturn.targets._answer import Answer
from keyturn.targets._target_table import is_loopback, require_driver

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = [
    "DENIED",
    "LOGIN_REFUSED",
    "REJECTED",
    "Answer",
    "Login",
    "Vendor",
    "made_name",
    "segment",
    "until",
    "vendor",
]

LOGIN_REFUSED = "target.login-refused"
DENIED = "target.denied"
REJECTED = "target.rejected"

_TIMEOUT_SECONDS = 10.0
_LIMIT_BYTES = 1_048_576
# How often a 429 is met, and how long it is waited for, all in all.
_TRIES = 3
_PATIENCE_SECONDS = 10.0
# Until a change is known to all of a vendor's machines.
_SETTLE_SECONDS = 20.0
_SETTLE_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Login:
    """
    Who is asking.

    Args:
        scheme: `Bearer`, `OAuth`, or `Basic` (the secret is then the user name).
        whose: For messages, such as "the admin key `openai-admin`".
    """

    scheme: str
    secret: SecretValue
    whose: str

    @staticmethod
    def bearer(secret: SecretValue, whose: str) -> Login:
        """Return a login by bearer token."""
        return Login("Bearer", secret, whose)

    @staticmethod
    def basic(secret: SecretValue, whose: str) -> Login:
        """Return a login by user name, with an empty password."""
        return Login("Basic", secret, whose)


def vendor(name: str, context: KindContext, default_url: str) -> Vendor:
    """
    Return the API of *name* at the target's `base_url`.

    Raises:
        UsageError: The address cannot be used, or httpx is not installed.
    """
    url = context.target.get("base_url", default_url)
    if not isinstance(url, str):
        raise _unusable("is not text")
    return Vendor(name, url, clock=context.clock)


class Vendor:
    """
    One vendor's API.

    Args:
        name: As people write it: `OpenAI`.
        base_url: Paths are added to it; https, or http on this machine.
        ca_file: Certificates to verify the server with; the system's where None.

    Raises:
        UsageError: The address cannot be used, or httpx is not installed.
    """

    def __init__(
        self, name: str, base_url: str, *, clock: Clock, ca_file: str | None = None
    ) -> None:
        require_driver("httpx", "httpx", "vendors")
        self.name = name
        self._base = _checked(base_url)
        self._ca_file = ca_file
        self._clock = clock

    def request(
        self,
        method: str,
        path: str,
        *,
        login: Login | None = None,
        query: Mapping[str, str] | None = None,
        json_body: Mapping[str, object] | None = None,
        form: Mapping[str, str | SecretValue] | None = None,
        headers: Mapping[str, str] | None = None,
        changing: bool | None = None,
        expect: Collection[int] = (),
        hint: str | None = None,
    ) -> Answer:
        """
        Send one request and return the answer.

        Args:
            path: Begins with a slash; parts that are not ours go through `segment`.
            changing: Whether it changes something; by the method where None.
            expect: Statuses besides 2xx that the caller deals with.
            hint: What to do where it answers no.

        Raises:
            Unavailable: No answer, and nothing happened.
            OutcomeUnknown: No answer, and it may have happened.
            Rejected: It answered no.
        """
        if changing is None:
            changing = method not in {"GET", "HEAD"}
        sent = {"Accept": "application/json", "Accept-Encoding": "identity"} | dict(headers or {})
        if login is not None:
            sent["Authorization"] = _authorization(login)
        content = None
        if json_body is not None:
            content = json.dumps(json_body).encode()
            sent["Content-Type"] = "application/json"
        elif form is not None:
            content = _form(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        waited, attempt = 0.0, 1
        while True:
            answer, retry_after = self._send(method, path, query, sent, content, changing=changing)
            if answer.succeeded or answer.status in expect:
                return answer
            pause = float(attempt) if retry_after is None else retry_after
            in_time = attempt < _TRIES and waited + pause <= _PATIENCE_SECONDS
            if answer.status != 429 or not in_time:  # noqa: PLR2004 - too many requests
                raise self._refusal(answer, login, hint, retry_after)
            self._clock.sleep(pause)
            waited, attempt = waited + pause, attempt + 1

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        content: bytes | None,
        *,
        changing: bool,
    ) -> tuple[Answer, float | None]:
        import httpx

        client = httpx.Client(
            verify=_trust(self._base, self._ca_file),
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )
        try:
            with (
                client,
                client.stream(
                    method, self._base + path, params=query, headers=headers, content=content
                ) as response,
            ):
                body = self._read(response, changing=changing)
                retry_after = _seconds(response.headers.get("Retry-After"))
                return Answer(response.status_code, self.name, body, changing), retry_after
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            # Nothing was sent. Without its cause, as those below: a request has the key.
            raise self._silent(type(error).__name__, changing=False) from None
        except httpx.HTTPError as error:
            raise self._silent(type(error).__name__, changing=changing) from None

    def _read(self, response: httpx.Response, *, changing: bool) -> object:
        deadline = self._clock.monotonic() + 2 * _TIMEOUT_SECONDS
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _LIMIT_BYTES or self._clock.monotonic() > deadline:
                raise self._silent("its answer does not end", changing=changing)
        try:
            return json.loads(body) if body else None
        except (ValueError, RecursionError):
            # An error page of something in between; its text is of no use.
            return None

    def _silent(self, why: str, *, changing: bool) -> KeyturnError:
        if changing:
            return OutcomeUnknown(
                f"{self.name} gave no answer to a change ({why}): it may have been made",
                hint="run the command again: it asks what is true first",
            )
        return Unavailable(
            f"{self.name} did not answer ({why})",
            hint=f"check that `{self._base}` can be reached from here",
        )

    def _refusal(
        self, answer: Answer, login: Login | None, hint: str | None, retry_after: float | None
    ) -> KeyturnError:
        whose = "the request" if login is None else login.whose
        words = answer.words()
        said = f": {words}" if words else ""
        match answer.status:
            case 401:
                return Rejected(
                    f"{self.name} does not accept {whose}{said}", hint=hint, code=LOGIN_REFUSED
                )
            case 403:
                return Rejected(f"{self.name} denies {whose}{said}", hint=hint, code=DENIED)
            case 429:
                wait = "" if retry_after is None else f" and asks to wait {retry_after:g} seconds"
                return Unavailable(
                    f"{self.name} limits how often it is asked{wait}{said}",
                    hint="nothing was changed; run the command again later",
                )
            case status if status >= 500 or status == 408:  # noqa: PLR2004
                return self._silent(f"{status}{said}", changing=answer.changing)
            case status if status < 400:  # noqa: PLR2004
                return Rejected(
                    f"{self.name} answered {status}, a redirect, which is not followed",
                    hint="check base_url in the secret's target",
                    code=REJECTED,
                )
            case status:
                return Rejected(f"{self.name} answered {status}{said}", hint=hint, code=REJECTED)


def segment(part: str) -> str:
    """Return *part* as one segment of a path, whatever is in it."""
    from urllib.parse import quote

    return quote(part, safe="") if part not in {".", ".."} else "%2E" * len(part)


def made_name(ref: SecretRef, token: Token) -> str:
    """Return the name at the provider of what the rotation *token* of *ref* makes."""
    return f"keyturn-{ref.name}-{token[:12]}"


def until(
    clock: Clock, ask: Callable[[], T | None], *, seconds: float = _SETTLE_SECONDS
) -> T | None:
    """
    Ask until the answer is not None, for *seconds* at most.

    A vendor's machines learn of a new or deleted key one after the other.
    """
    waited = 0.0
    steps = iter(_SETTLE_STEPS)
    while True:
        found = ask()
        pause = next(steps, _SETTLE_STEPS[-1])
        if found is not None or waited + pause > seconds:
            return found
        clock.sleep(pause)
        waited += pause


def _authorization(login: Login) -> str:
    secret = login.secret.reveal()
    # The library's own error for such a header would quote it.
    if not secret or any(byte <= 0x20 or byte >= 0x7F for byte in secret):  # noqa: PLR2004
        raise Rejected(
            f"{login.whose} is empty or has characters that no key has",
            hint="set it again, without spaces and line ends",
            code=LOGIN_REFUSED,
        )
    if login.scheme == "Basic":
        secret = b64encode(secret + b":")
    return f"{login.scheme} {secret.decode()}"


def _form(form: Mapping[str, str | SecretValue]) -> bytes:
    from urllib.parse import urlencode

    fields = {
        name: value.reveal() if isinstance(value, SecretValue) else value
        for name, value in form.items()
    }
    return urlencode(fields).encode()


def _seconds(header: str | None) -> float | None:
    # The form with a date is not used by the vendors that are served here.
    if header is None or re.fullmatch(r"\d{1,6}(\.\d{1,3})?", header, re.ASCII) is None:
        return None
    return float(header)


def _checked(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _unusable("is not an address") from None
    if not url.isascii() or not url.isprintable() or " " in url or not parts.hostname:
        raise _unusable("is not an address")
    if parts.username is not None or parts.query or parts.fragment:
        raise _unusable("holds more than scheme, host and path")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise _unusable("is plain http to another machine, where keys would be read on the way")
    if parts.scheme not in {"http", "https"}:
        raise _unusable("is not an https address")
    return url.rstrip("/")


def _unusable(why: str) -> UsageError:
    return UsageError(
        f"base_url in the secret's target {why}",
        hint='leave it out for the vendor\'s own, or write base_url = "https://HOST/PATH"',
        code="rotation.target",
    )


def _trust(base: str, ca_file: str | None) -> ssl.SSLContext:
    import ssl

    # Nothing is encrypted on the way to this machine itself: no certificates are read.
    if base.startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return ssl.create_default_context(cafile=ca_file)
