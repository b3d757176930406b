"""
SendGrid API keys.

A key whose scopes allow it makes and ends keys: an administering one, or the key
itself. Several work at once. The new key is given the scopes of the old one, and
`GET /v3/scopes` tells whether a key works and what it may do.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence

from keyturn._internal import failpoints
from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, VerificationFailed
from keyturn.targets._answer import Answer
from keyturn.targets._http import DENIED, Login, Vendor, made_name, segment, vendor
from keyturn.targets._target_table import admin_field, faulty, words
from keyturn.targets._vendor_key import KEY_ID, VALUE, VendorKey, Verdict, value_of

__all__ = ["SendGridKey", "build"]

_NAME = "SendGrid"
_URL = "https://api.sendgrid.com"
_KEYS = "/v3/api_keys"
_CONSOLE = "app.sendgrid.com, under Settings, API Keys"
_MOST_KEYS = 100
# To list keys, make one, and end it again.
_MANAGING = ("api_keys.create", "api_keys.delete", "api_keys.read")
# A key says its own name: `SG.<key id>.<the secret part>`.
_FORM = re.compile(r"SG\.([A-Za-z0-9_-]{16,64})\.[A-Za-z0-9_-]{16,}", re.ASCII)
# `GET /v3/scopes` tells these of an account; a key cannot be given them.
_NOT_OF_KEYS = frozenset({"2fa_exempt", "2fa_required", "sender_verification_eligible"})


def build(context: KindContext) -> RotationKind:
    """
    Return the steps for the key of *context*.

    Raises:
        UsageError: The target, or the administering secret, is not fit.
    """
    admin = None
    if context.admin is not None:
        key = admin_field(context, context.admin, VALUE)
        admin = Login.bearer(key, f"the admin key `{context.admin_name}`")
    return SendGridKey(
        vendor(_NAME, context, _URL), context, admin=admin, scopes=words(context, "scopes")
    )


class SendGridKey(VendorKey):
    """
    Makes keys with the scopes of the current one, and ends them.

    Args:
        admin: Who makes and ends keys; None for the key itself.
        scopes: Of the new key; empty for those of the current one.
    """

    def __init__(
        self,
        api: Vendor,
        context: KindContext,
        *,
        admin: Login | None,
        scopes: tuple[str, ...],
    ) -> None:
        super().__init__(_NAME, clock=context.clock)
        self._api = api
        self._context = context
        self._ref = context.ref
        self._admin = admin
        self._scopes = scopes
        # Who asked to create: asked again to clean up after it.
        self._asker = admin
        self._tried = False
        # What this process made, as a person sees it in the console.
        self._made = ""
        # Refused before anything was made: then a clean-up is not refused again, but void.
        self._denied = False

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the keys that exist.

        Raises:
            Rejected: The keys may not be listed, or there is no room for one more.
        """
        login = self._login(current)
        wanted = self._require_rights(login, current)
        count = len(self._list(login))
        if count >= _MOST_KEYS:
            raise _no_room()
        lines = [
            ("create", f"a key with {len(wanted)} scopes, beside {count} keys; by {login.whose}"),
            ("check", "read the new key's scopes and compare them"),
        ]
        if current is not None:
            known = _key_id(current)
            what = "cannot be told: a person deletes it" if known is None else "is deleted"
            lines += [
                ("retire", f"the old key {what}"),
                ("prove", "reading scopes with the old key is refused"),
            ]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Make a key with the scopes of *current*, after ending what an earlier try made.

        Raises:
            Rejected: The key that asks may not, or there are 100 keys already.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.
        """
        self._tried = True
        login = self._asker = self._login(current)
        name = made_name(self._ref, token)
        with self._before_making():
            wanted = self._require_rights(login, current)
            self._end_named(login, name)
        self._made = name
        body = {"name": name, "scopes": sorted(wanted)}
        failpoints.hit("sendgrid.create.call")
        try:
            answer = self._api.request(
                "POST", _KEYS, login=login, json_body=body, hint=self._hint(login)
            )
        except Rejected as error:
            if error.code == DENIED and len(self._list(login)) >= _MOST_KEYS:
                raise _no_room() from error
            raise
        failpoints.hit("sendgrid.create.called")
        return {VALUE: answer.secret("api_key"), KEY_ID: answer.secret("api_key_id")}

    def sweep(self, token: Token, *, current: Values) -> None:
        """
        End what *token* made besides *current*: a request that was given up came late.

        Raises:
            Rejected: The keys may not be listed; the message names all that is missing.
        """
        try:
            self.clean_up(token, current=current)
        except Rejected as error:
            if error.code == DENIED and self._denied:
                self._require_rights(self._login(current), current)
            raise

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """
        Delete the keys that are named for *token*: nobody has their values.

        Args:
            current: It is spared, and asks where no other key administers.

        Raises:
            Rejected: No key is there to ask with.
        """
        name = made_name(self._ref, token)
        login = self._asker if current is None else self._login(current)
        if self._denied or (login is None and self._tried):
            # This very process could not ask, so that it made nothing.
            return
        if login is None:
            raise Rejected(
                f"whether a key `{name}` was left at SendGrid cannot be asked without a key",
                hint=f"look at {_CONSOLE}, and delete `{name}` if it is there",
                code="target.left-over",
            )
        with self._before_making():
            self._end_named(login, name, spare=None if current is None else _key_id(current))

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Delete the new key; one that is gone already is fine."""
        self._end(pending, keep=current, login=self._login(current), point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Delete the old key.

        Raises:
            NotYet: It has no form from which its id can be read.
        """
        self._end(old, keep=current, login=self._login(current), point="retire")

    def rehearsal(self) -> RotationKind:
        """Return these steps: a further key touches nothing that is in use."""
        return self

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the id of *pending*, and where it is deleted."""
        named = f", named `{self._made}`" if self._made else ""
        what = f"the key with the id `{pending[KEY_ID].reveal_text()}`{named}"
        return what, f"delete it at {_CONSOLE}"

    def use(self, value: SecretValue) -> Answer:
        """Read the scopes of *value*."""
        login = Login.bearer(value, "the key")
        return self._api.request("GET", "/v3/scopes", login=login, expect=(401, 403))

    def verdict(self, answer: Answer) -> Verdict:
        """Tell what *answer* says; 403 comes from an address that is not allowed, too."""
        if answer.succeeded:
            return Verdict.ACCEPTED
        return Verdict.REFUSED if answer.status == 401 else Verdict.UNCLEAR  # noqa: PLR2004

    def compare(self, old: Answer, new: Answer) -> None:
        """
        Compare the scopes of two keys.

        Raises:
            VerificationFailed: The new key has more or fewer than it should.
        """
        had = set(self._scopes) or _scopes(old)
        lacking, beyond = sorted(had - _scopes(new)), sorted(_scopes(new) - had)
        # What SendGrid adds to a key that was made with less is not ours to judge.
        if lacking or (beyond and not self._scopes):
            some = ", ".join(f"`{scope[:80]}`" for scope in (lacking or beyond)[:3])
            what = "lacks" if lacking else "has, and the old one has not,"
            raise VerificationFailed(
                f"the new key {what} {len(lacking or beyond)} scopes: {some}",
                hint="write the scopes that it shall have as scopes = [...] in the secret's target",
            )

    def _login(self, current: Values | None) -> Login:
        if self._admin is not None:
            return self._admin
        if current is None:
            raise faulty(
                self._context,
                "names no `admin` that could make a first key",
                f"make the first at {_CONSOLE}, and `keyturn set` it; or add admin ="
                ' "NAME", a secret that holds a key with the scopes to make keys,',
            )
        return Login.bearer(value_of(current), f"`{self._ref.name}` itself")

    @contextlib.contextmanager
    def _before_making(self) -> Iterator[None]:
        try:
            yield
        except Rejected as error:
            self._denied = error.code == DENIED and not self._made
            raise

    def _require_rights(self, login: Login, current: Values | None) -> Collection[str]:
        """
        Return the scopes of a new key, where *login* has them and may end what it makes.

        Raises:
            Rejected: It lacks some; the message names each.
        """
        answer = self._api.request(
            "GET", "/v3/scopes", login=login, expect=(403,), hint=self._hint(login)
        )
        if not answer.succeeded:
            # Which it has cannot be asked, so that each request tells.
            return self._wanted(login, current)
        has = _scopes(answer)
        wanted = self._wanted(login, current)
        lacking = sorted({*_MANAGING, *wanted} - has)
        if not lacking:
            return wanted
        named = ", ".join(f"`{scope[:80]}`" for scope in lacking)
        raise Rejected(
            f"{login.whose} lacks {_counted(lacking, 'scope')}: {named}",
            hint=self._hint(login),
            code=DENIED,
        )

    def _hint(self, login: Login) -> str:
        return (
            f"{login.whose} needs the scopes api_keys.create, api_keys.read and api_keys.delete,"
            " and every scope that the new key shall have"
        )

    def _wanted(self, login: Login, current: Values | None) -> Collection[str]:
        if self._scopes:
            return self._scopes
        if current is None:
            raise faulty(
                self._context,
                "does not say what a first key may do",
                'add scopes = ["mail.send"]',
            )
        key_id = _key_id(current)
        if key_id is not None:
            answer = self._api.request(
                "GET", f"{_KEYS}/{segment(key_id)}", login=login, expect=(403, 404)
            )
            if answer.succeeded:
                return _scopes(answer)
        answer = self.use(value_of(current))
        if not answer.succeeded:
            raise Rejected(
                f"{_NAME} refuses the key in use, so its scopes cannot be read: {answer.status}",
                hint='write the scopes of the new key as scopes = ["mail.send"] in the target',
                code=DENIED,
            )
        return _scopes(answer) - _NOT_OF_KEYS

    def _end(self, values: Values, *, keep: Values | None, login: Login, point: str) -> None:
        key_id = _key_id(values)
        if key_id is None:
            if self.is_dead(values):
                return
            raise self.by_hand(
                "the old key has not the form of a SendGrid key, so its id cannot be read from it",
                _CONSOLE,
            )
        self.refuse_in_use(keep is not None and key_id == _key_id(keep), "the one in use")
        administers = self._admin is not None and key_id == _id_in(self._admin.secret)
        self.refuse_in_use(administers, "the one that administers the keys")
        self._delete(login, key_id, point=point)

    def _end_named(self, login: Login, name: str, *, spare: str | None = None) -> None:
        for key_id, found in self._list(login):
            if found == name and key_id != spare:
                self._delete(login, key_id, point="clean_up")

    def _delete(self, login: Login, key_id: str, *, point: str) -> None:
        failpoints.hit(f"sendgrid.{point}.call")
        self._api.request(
            "DELETE",
            f"{_KEYS}/{segment(key_id)}",
            login=login,
            expect=(404,),
            hint=self._hint(login),
        )
        failpoints.hit(f"sendgrid.{point}.called")

    def _list(self, login: Login) -> list[tuple[str, str]]:
        answer = self._api.request("GET", _KEYS, login=login, hint=self._hint(login))
        return [
            (str(row.get("api_key_id", "")), str(row.get("name", "")))
            for row in answer.rows("result")
        ]


def _key_id(values: Values) -> str | None:
    known = values.get(KEY_ID)
    return _id_in(value_of(values)) if known is None else known.reveal_text()


def _id_in(value: SecretValue) -> str | None:
    found = _FORM.fullmatch(value.reveal_text())
    return None if found is None else found.group(1)


def _scopes(answer: Answer) -> set[str]:
    found = answer.at("scopes")
    if not isinstance(found, list):
        raise answer.unreadable("scopes")
    return {str(scope) for scope in found}


def _counted(items: Sequence[str], noun: str) -> str:
    return f"a {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def _no_room() -> KeyturnError:
    return Rejected(
        f"the SendGrid account has {_MOST_KEYS} keys, which is the most that it may have",
        hint=f"delete keys that nobody uses: {_CONSOLE}",
        code="target.full",
    )
