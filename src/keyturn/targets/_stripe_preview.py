"""
Stripe keys made and expired through the preview API, `/v2/iam/api_keys`.

A live key comes back encrypted for an RSA key of ours. That key is made for the one
call and is nowhere written down, so a new key whose answer was lost can be read by
nobody: the next try finds it by its name and expires it.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from keyturn._internal import failpoints
from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets._http import DENIED, REJECTED, Answer, Login, made_name, segment
from keyturn.targets._stripe_api import pages_v2, standing
from keyturn.targets._target_table import admin_field
from keyturn.targets._vendor_key import KEY_ID, VALUE
from keyturn.targets.guided import waits
from keyturn.targets.stripe import StripeKey, require_other

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

__all__ = ["StripeKeyByApi"]

_PATH = "/v2/iam/api_keys"
_VERSION = {"Stripe-Version": "2026-10-14.preview"}
_RSA_BITS = 3072
_ALGORITHMS = ["RSA-OAEP-256", "RSA-OAEP", "A128GCM", "A256GCM", "A256CBC-HS512"]
# What Stripe puts in place of a key's middle when it shows one.
_HIDDEN = re.compile(r"[.*\u2022\u2026]{2,}|\u2026")
_SHOWN_MINIMUM = 4
_RIGHTS = ("permissions", "connect_permissions")
_COMPACT_DOTS = 4
_BY_HAND = "remove `preview` from the secret's target, and make the key by hand"
_HINT = (
    "the key, or the secret that admin names, needs the right to manage API keys; or " + _BY_HAND
)
_Row = Mapping[str, object]


class StripeKeyByApi(StripeKey):
    """A key that the preview API makes with the rights of the present one, and expires."""

    def __init__(self, context: KindContext) -> None:
        super().__init__(context)
        self._login = None
        if context.admin is not None:
            key = admin_field(context, context.admin, "value")
            self._login = Login.bearer(key, f"the key `{context.admin_name}`")

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - the port's
        """Return what a rotation will do."""
        return [
            ("create", "a key with the rights of the present one, by Stripe's preview API"),
            ("check", "read the balance; same account, mode and rights as the present key"),
            ("retire", "expire the old key"),
            ("prove", "Stripe refuses the old key (401)"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Return a new key and its id.

        Raises:
            Rejected: There is no present key to copy the rights of, it cannot be told
                which of the account's it is, or Stripe does not allow it.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.

        Crash safety:
            What an earlier call with *token* made is expired first.
        """
        if current is None:
            raise Rejected(
                "a first key is made by hand: there are no rights to copy",
                hint=f"make it in the dashboard, then: keyturn set {self._context.ref.name}"
                f" -e {self._context.ref.environment}",
                code="target.first",
            )
        login = self._remembered(current)
        rows = self._rows(login)
        self._expire_made(rows, token, login)
        present = self._row_of(current, rows)
        if present is None:
            raise Rejected(
                "which of the account's keys is the present one cannot be told",
                hint=_BY_HAND,
                code="target.unknown",
            )
        if present.get("ip_allowlist"):
            raise Rejected(
                "the present key is bound to addresses, which a new one cannot be by this API",
                hint=_BY_HAND,
                code="target.unfit",
            )
        return self._make(present, login, token)

    def sweep(self, token: Token, *, current: Values) -> None:
        """End what *token* made besides *current*: a request that was given up came late."""
        self.clean_up(token, current=current)

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """
        Expire what `create` with *token* made.

        Raises:
            Rejected: There is no key to ask with.
        """
        login = self._login if current is None else self._remembered(current)
        if login is None:
            raise Rejected(
                f"whether Stripe has a key `{made_name(self._context.ref, token)}` that nobody"
                " stored cannot be asked",
                hint="delete it in the dashboard if it is there; name an `admin` in the secret's"
                " target, and resume",
                code=DENIED,
            )
        rows = self._rows(login)
        own = None if current is None else self._row_of(current, rows)
        self._expire_made([row for row in rows if row is not own], token, login)

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Try the new key, and compare account, mode and rights with the present one.

        Raises:
            VerificationFailed: It does not work, or is not the present one's equal.
        """
        evidence = super().check(current, pending)
        if current is not None:
            rows = self._rows(self._remembered(current))
            new, old = self._row_of(pending, rows), self._row_of(current, rows)
            if new is not None and old is not None:
                _require_rights(new, old)
        return evidence

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Expire *pending*; *current* is not touched."""
        self._expire(pending, self._remembered(current or pending), point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Expire *old*.

        Raises:
            NotYet: It cannot be told which key it is, and it works.
            Rejected: It is the key in use.
        """
        require_other(current, old)
        self._expire(old, self._remembered(current), point="retire")

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the id of *pending*, and where it is ended."""
        return f"the key `{pending[KEY_ID].reveal_text()}`", "expire it in Stripe's dashboard"

    def rehearsal(self) -> RotationKind | None:
        """Return these steps: a further key does nothing to those in use."""
        return self

    def _remembered(self, values: Values) -> Login:
        # Without an administering key, the key itself manages keys; `clean_up` is given none.
        if self._login is None or self._context.admin is None:
            self._login = Login.bearer(values[VALUE], f"the key `{self._context.ref.name}`")
        return self._login

    def _rows(self, login: Login) -> list[_Row]:
        query = {"include_expired": "true", "limit": "100"}
        try:
            return list(
                pages_v2(self._stripe, _PATH, login, headers=_VERSION, query=query, hint=_HINT)
            )
        except Rejected as error:
            if error.code != REJECTED:
                raise
            raise Rejected(
                f"{error.message}; is the preview switched on for this account?",
                hint=_BY_HAND,
                code=REJECTED,
            ) from error

    def _make(self, present: _Row, login: Login, token: Token) -> Values:
        from joserfc.jwk import RSAKey

        ours = RSAKey.generate_key(_RSA_BITS, private=True)
        asked: dict[str, object] = {
            "type": "secret_key",
            "name": made_name(self._context.ref, token),
            "note": f"{self._context.project}/{self._context.ref}, by keyturn",
            "public_key": {
                "id": token[:12],
                "pem_key": {"algorithm": "RSA", "data": ours.as_pem(private=False).decode()},
            },
        }
        asked |= {name: present[name] for name in _RIGHTS if present.get(name)}
        failpoints.hit("stripe.create.call")
        answer = self._stripe.request(
            "POST", _PATH, login=login, json_body=asked, headers=_VERSION, hint=_HINT
        )
        failpoints.hit("stripe.create.called")
        return {VALUE: _opened(answer, ours), KEY_ID: answer.secret("id")}

    def _expire_made(self, rows: Sequence[_Row], token: Token, login: Login) -> None:
        name = made_name(self._context.ref, token)
        for row in rows:
            if row.get("name") == name and row.get("status") == "active":
                self._expire_row(str(row.get("id")), login, point="orphan")

    def _expire(self, values: Values, login: Login, *, point: str) -> None:
        row = self._row_of(values, self._rows(login))
        if row is not None:
            if row.get("status") == "active":
                self._expire_row(str(row.get("id")), login, point=point)
        elif standing(self._stripe, values[VALUE]).live:
            raise waits(
                self._context.ref,
                "which of the account's keys is the one to end cannot be told: delete it in"
                " Stripe's dashboard (Developers, API keys)",
                looked_at=True,
            )

    def _expire_row(self, key_id: str, login: Login, *, point: str) -> None:
        failpoints.hit(f"stripe.{point}.call")
        self._stripe.request(
            "POST",
            f"{_PATH}/{segment(key_id)}/expire",
            login=login,
            json_body={},
            headers=_VERSION,
            hint=_HINT,
        )
        failpoints.hit(f"stripe.{point}.called")

    def _row_of(self, values: Values, rows: Sequence[_Row]) -> _Row | None:
        """Return what Stripe knows of a key; None where more than one may be it."""
        if KEY_ID in values:
            name = values[KEY_ID].reveal_text()
            return next((row for row in rows if row.get("id") == name), None)
        text = values[VALUE].reveal_text()
        found = [row for row in rows if _is_shown(row, text)]
        return found[0] if len(found) == 1 else None


def _is_shown(row: _Row, text: str) -> bool:
    """Tell whether *row* shows the beginning and the end of the key *text*."""
    secret = row.get("secret_key")
    shown = secret.get("secret_token_redacted") if isinstance(secret, dict) else None
    parts = _HIDDEN.split(shown) if isinstance(shown, str) else []
    return (
        len(parts) == 2  # noqa: PLR2004 - what is before and after the hidden part
        and len(parts[1]) >= _SHOWN_MINIMUM
        and text.startswith(parts[0])
        and text.endswith(parts[1])
    )


def _require_rights(new: _Row, old: _Row) -> None:
    for name in _RIGHTS:
        wanted, given = old.get(name), new.get(name)
        lacking: list[str] = []
        if isinstance(wanted, list) and isinstance(given, list):
            lacking = sorted({str(right) for right in wanted} - {str(right) for right in given})
        elif name == "permissions" and wanted is None and given is not None:
            # A key without a list of them may do everything.
            lacking = ["all that are not on its list"]
        if lacking:
            raise VerificationFailed(
                f"the new key lacks rights of the present one: {', '.join(lacking)}",
                hint=_BY_HAND,
                code="value.rights",
            )


def _opened(answer: Answer, ours: RSAKey) -> SecretValue:
    """
    Return the key that *answer* holds: in clear for a test key, else encrypted for *ours*.

    Raises:
        Rejected: It cannot be opened. The key is known to nobody, and `clean_up` ends it.
    """
    from joserfc import jwe
    from joserfc.errors import JoseError

    if isinstance(answer.at("secret_key", "token"), str):
        return answer.secret("secret_key", "token")
    sealed = answer.text("secret_key", "encrypted_secret", "ciphertext")
    try:
        # Documented as base64 of the compact form, which is base64 itself; either is read.
        compact = sealed if sealed.count(".") == _COMPACT_DOTS else b64decode(sealed).decode()
        opened = jwe.decrypt_compact(compact, ours, algorithms=_ALGORITHMS).plaintext
    except (JoseError, ValueError):
        opened = None
    if not opened:
        raise Rejected(
            "the new key as Stripe sent it cannot be opened",
            hint=_BY_HAND,
            code="target.unreadable",
        ) from None
    return SecretValue(opened)
