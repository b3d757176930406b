"""
A kind for Keyturn: the passwords of one user of the Acme service.

A user may have several passwords at a time, so old and new overlap. The service
makes the password itself, and shows it once: a lost answer leaves one behind that
nobody knows. It is labelled with the rotation's token, so that the next try finds
and ends it.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from keyturn.kinds import (
    Evidence,
    FieldName,
    KindContext,
    NotYet,
    OnePhase,
    OutcomeUnknown,
    Rejected,
    RotationKind,
    SecretValue,
    Token,
    Unavailable,
    UsageError,
    Values,
    VerificationFailed,
)

USERNAME, PASSWORD = FieldName("username"), FieldName("password")
# Not declared by the secret, and kept with it: by this the password is ended later.
PASSWORD_ID = FieldName("password_id")

TIMEOUT_SECONDS = 10


def build(context: KindContext) -> RotationKind:
    """Return the steps; this is what the entry point names."""
    options = context.target.get("options")
    if not isinstance(options, Mapping):
        options = {}
    url = options.get("url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://127.0.0.1:")):
        raise UsageError(
            "the Acme service has no address",
            hint='write in keyturn.toml: options = { url = "https://acme.example.com" }',
            code="rotation.target",
        )
    if context.admin is None or PASSWORD not in context.admin:
        raise UsageError(
            "the Acme service's administrator is not named",
            hint='write in keyturn.toml, in the secret\'s target: admin = "acme-admin"',
            code="rotation.target",
        )
    acme = Acme(url.rstrip("/"), context.admin[PASSWORD])
    return AcmeUser(acme, user=str(options.get("user", context.ref.name)), name=context.ref.name)


class Acme:
    """The service's API. Every answer is a status and a body; everything else is raised."""

    def __init__(self, url: str, admin_password: SecretValue) -> None:
        self.url = url
        self._admin_password = admin_password

    def hello(self, values: Values) -> tuple[int, dict[str, str]]:
        login = (values[USERNAME].reveal_text(), values[PASSWORD])
        return self._send("GET", "/hello", login)

    def passwords(self, user: str) -> Any:
        return self._administer("GET", user)

    def make(self, user: str, label: str) -> Any:
        return self._administer("POST", user, body={"label": label})

    def end(self, user: str, number: str) -> None:
        self._administer(
            "DELETE",
            user,
            f"/{quote(number, safe='')}",
            fine=(HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND),
        )

    def _administer(
        self,
        method: str,
        user: str,
        rest: str = "",
        *,
        body: object = None,
        fine: Sequence[int] = (HTTPStatus.OK, HTTPStatus.CREATED),
    ) -> Any:
        path = f"/admin/users/{quote(user, safe='')}/passwords{rest}"
        status, answer = self._send(method, path, ("admin", self._admin_password), body)
        if status in fine:
            return answer
        if status == HTTPStatus.UNAUTHORIZED:
            raise Rejected("Acme refused the administrator's login", code="target.login-refused")
        if status == HTTPStatus.CONFLICT:
            raise Rejected(
                f"Acme makes no more passwords for `{user}`: {answer.get('error', '')}",
                hint="end one that nobody uses",
                code="target.rejected",
            )
        if method != "GET":
            # It may have been done: the same step is run again, and looks first.
            raise OutcomeUnknown(f"Acme answered {status}")
        raise Unavailable(f"Acme answered {status}", code="target.unavailable")

    def _send(
        self, method: str, path: str, login: tuple[str, SecretValue], body: object = None
    ) -> tuple[int, Any]:
        text = b64encode(f"{login[0]}:{login[1].reveal_text()}".encode()).decode()
        request = urllib.request.Request(
            self.url + path,
            method=method,
            headers={"Authorization": f"Basic {text}"},
            data=None if body is None else json.dumps(body).encode(),
        )
        # No proxy from the environment and no redirect: the request carries a password.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Unmoved())
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())
        except OSError as error:
            refused = isinstance(getattr(error, "reason", None), ConnectionRefusedError)
            if method == "GET" or refused:
                raise Unavailable("Acme did not answer", code="target.unavailable") from None
            raise OutcomeUnknown("Acme's answer was lost") from None


class Unmoved(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a redirect is an answer that is not expected."""

    def redirect_request(self, *_: object) -> None:
        return None


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}


class AcmeUser(OnePhase):
    """One user: a new password beside the old one, then the old one ended."""

    def __init__(self, acme: Acme, *, user: str, name: str) -> None:
        self._acme = acme
        self._user = user
        self._name = name

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - the port's
        return [
            ("create", "a new password, made by Acme; the old one goes on working"),
            ("check", "log in with the new one"),
            ("retire", "the old password is ended"),
            ("prove", "a login with the old password is refused"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        self.clean_up(token)
        made = self._acme.make(self._user, self._label(token))
        return {
            USERNAME: SecretValue.from_text(self._user),
            PASSWORD: SecretValue.from_text(made["password"]),
            PASSWORD_ID: SecretValue.from_text(made["id"]),
        }

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:  # noqa: ARG002 - the port's
        for entry in self._acme.passwords(self._user):
            if entry["label"] == self._label(token):
                self._acme.end(self._user, entry["id"])

    def apply(self, current: Values | None, pending: Values) -> None:
        """Nothing is left to do: Acme knows what it made."""

    def check(self, current: Values | None, pending: Values) -> Evidence:  # noqa: ARG002 - the port's
        return self.probe(pending)

    def withdraw(self, current: Values | None, pending: Values) -> None:  # noqa: ARG002 - the port's
        self._end(pending)

    def retire(self, current: Values, old: Values) -> None:
        # Not before the new one is seen to work.
        self.probe(current)
        self._end(old)

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        status, _ = self._acme.hello(old)
        if status == HTTPStatus.UNAUTHORIZED:
            return Evidence("login refused", "401")
        if status == HTTPStatus.OK:
            raise VerificationFailed("the old password still works", code="target.still-works")
        raise Unavailable(f"Acme answered {status}", code="target.unavailable")

    def probe(self, values: Values) -> Evidence:
        status, _ = self._acme.hello(values)
        if status == HTTPStatus.OK:
            return Evidence("login accepted", "200")
        if status == HTTPStatus.UNAUTHORIZED:
            raise VerificationFailed("Acme refuses the password", code="target.login-refused")
        raise Unavailable(f"Acme answered {status}", code="target.unavailable")

    def rehearsal(self) -> RotationKind:
        return self

    def _label(self, token: Token) -> str:
        return f"keyturn-{self._name}-{token[:12]}"

    def _end(self, values: Values) -> None:
        status, answer = self._acme.hello(values)
        if status == HTTPStatus.UNAUTHORIZED:
            return
        kept = values.get(PASSWORD_ID)
        number = kept.reveal_text() if kept else answer.get("password_id")
        if not number:
            raise NotYet(
                f"Acme does not say which password of `{self._user}` is meant: end it by hand",
                person=True,
                hint=f"then run: keyturn rotate --resume {self._name}",
            )
        self._acme.end(self._user, number)
