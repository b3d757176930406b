"""
OpenAI API keys of a service account in a project.

An admin key of the organisation makes and ends them, and several work at once: the
new key is made beside the old one, and the old one is deleted when nobody uses it
any more. What `GET /models` answers tells whether a key works and for which models.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keyturn._internal import failpoints
from keyturn.core.ids import Token
from keyturn.core.model import Values
from keyturn.core.ports import KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets._answer import Answer
from keyturn.targets._http import Login, Vendor, made_name, segment, vendor
from keyturn.targets._target_table import admin_field, faulty, needed_text, words
from keyturn.targets._vendor_key import KEY_ID, VALUE, VendorKey, Verdict, value_of

__all__ = ["OpenAIKey", "build"]

_NAME = "OpenAI"
_URL = "https://api.openai.com/v1"
_CONSOLE = "platform.openai.com, under the project's API keys"
# A page of the list of keys, and how many pages are read.
_PAGE = 100
_PAGES = 100
# What a key shows in the list: its first and last letters.
_REDACTED = re.compile(r"([^*.…]+)(?:\*+|\.{3,}|…)([^*.…]+)")
_LEAST_SHOWN = 4
# Of the reasons for a 401, those that are about the key itself.
_DEAD = frozenset({"invalid_api_key", "api_key_expired"})


@dataclass(frozen=True, slots=True)
class OpenAITarget:
    """
    Where keys are made, and by whom.

    Args:
        scopes: What a restricted key may do; empty for all that its account may.
    """

    api: Vendor
    project: str
    service_account: str
    scopes: tuple[str, ...]
    admin: Login
    admin_secret: str

    @property
    def keys(self) -> str:
        """The path of the project's keys."""
        return f"/organization/projects/{segment(self.project)}/api_keys"

    @property
    def account_keys(self) -> str:
        """The path at which a key of the service account is made."""
        project, account = segment(self.project), segment(self.service_account)
        return f"/organization/projects/{project}/service_accounts/{account}/api_keys"

    @property
    def hint(self) -> str:
        """What to do where the admin key is refused."""
        return (
            f"give `{self.admin_secret}` an admin key with the right to read and write project API"
            " keys (platform.openai.com, under the organization's admin keys), and check project"
            " and service_account in the secret's target"
        )


def build(context: KindContext) -> RotationKind:
    """
    Return the steps for the key of *context*; without the admin key only `probe` works.

    Raises:
        UsageError: The manifest does not say which project, account or admin key.
    """
    if context.admin_name is None:
        raise faulty(
            context,
            "names no `admin`, and only an admin key of the organization makes keys",
            'add admin = "NAME", a secret that holds one,',
        )
    nobody = {VALUE: SecretValue(b"")}
    admin = admin_field(context, context.admin or nobody, VALUE)
    target = OpenAITarget(
        api=vendor(_NAME, context, _URL),
        project=needed_text(context, "project", example="proj_..."),
        service_account=needed_text(context, "service_account", example="user-..."),
        scopes=words(context, "scopes"),
        admin=Login.bearer(admin, f"the admin key `{context.admin_name}`"),
        admin_secret=context.admin_name,
    )
    return OpenAIKey(target, context)


class OpenAIKey(VendorKey):
    """Makes keys of one service account, and ends them."""

    def __init__(self, target: OpenAITarget, context: KindContext) -> None:
        super().__init__(_NAME, clock=context.clock)
        self._target = target
        self._api = target.api
        self._ref = context.ref

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the keys that exist.

        Raises:
            Rejected: The admin key may not list them.
        """
        keys = list(self._list())
        noun = "key" if len(keys) == 1 else "keys"
        where = f"`{self._target.project}`, which has {len(keys)} {noun} now"
        lines = [
            ("create", f"a key of `{self._target.service_account}` in {where}"),
            ("check", "list models with the new key and compare them with the old key's"),
        ]
        if current is not None:
            found = self._identify(current, keys)
            if len(found) == 1:
                what = f"the old key, `{_name_of(found[0])}`, is deleted"
            else:
                what = "the old key cannot be told from others: a person deletes it"
            lines += [("retire", what), ("prove", "listing models with the old key is refused")]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """
        Make a key, after ending what an earlier try with *token* made.

        Raises:
            Rejected: The admin key may not, or there is no such project or account.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.
        """
        self.clean_up(token)
        body: dict[str, object] = {"name": made_name(self._ref, token)}
        if self._target.scopes:
            body["scopes"] = list(self._target.scopes)
        failpoints.hit("openai.create.call")
        answer = self._api.request(
            "POST",
            self._target.account_keys,
            login=self._target.admin,
            json_body=body,
            hint=self._target.hint,
        )
        failpoints.hit("openai.create.called")
        return {VALUE: answer.secret("value"), KEY_ID: answer.secret("id")}

    def sweep(self, token: Token, *, current: Values) -> None:
        """End what *token* made besides *current*: a request that was given up came late."""
        self.clean_up(token, current=current)

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """Delete the keys that are named for *token* and are not *current*: nobody has them."""
        name = made_name(self._ref, token)
        keys = list(self._list())
        own = [] if current is None else self._identify(current, keys)
        for key in keys:
            if _name_of(key) == name and key not in own:
                self._delete(_id_of(key), point="clean_up")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Delete the new key; one that is gone already is fine."""
        self._end(pending, keep=current, point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Delete the old key.

        Raises:
            NotYet: It was made by hand, and which one it is cannot be told for certain.
        """
        self._end(old, keep=current, point="retire")

    def rehearsal(self) -> RotationKind:
        """Return these steps: a further key touches nothing that is in use."""
        return self

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the id of *pending*, and where it is deleted."""
        what = f"the key `{pending[KEY_ID].reveal_text()}` of `{self._target.project}`"
        return what, f"delete it at {_CONSOLE}"

    def use(self, value: SecretValue) -> Answer:
        """List the models that *value* may use."""
        return self._api.request(
            "GET", "/models", login=Login.bearer(value, "the key"), expect=(401, 403, 429)
        )

    def verdict(self, answer: Answer) -> Verdict:
        """Tell what *answer* says: a key that lacks a right or has no quota is alive."""
        if answer.succeeded or answer.status == 429:  # noqa: PLR2004 - too many requests
            return Verdict.ACCEPTED
        code = answer.error_code()
        if answer.status == 401:  # noqa: PLR2004 - not authenticated
            return Verdict.REFUSED if code in _DEAD else Verdict.UNCLEAR
        # From a country or an address that is not served, every key gets this.
        return Verdict.UNCLEAR if "unsupported" in code else Verdict.ACCEPTED

    def compare(self, old: Answer, new: Answer) -> None:
        """
        Compare the models that two keys may use.

        Raises:
            VerificationFailed: Other models, or one may list them and the other not.
        """
        # Too many requests: alive, and no more can be told.
        if 429 in {old.status, new.status}:  # noqa: PLR2004
            return
        if old.status != new.status:
            more = "fewer" if old.succeeded else "more"
            raise VerificationFailed(
                f"the new key has {more} rights than the old: listing models gives {new.status}"
                f" with the new key and {old.status} with the old",
                hint="write the old key's permissions as scopes = [...] in the secret's target",
            )
        if not new.succeeded:
            return
        lacking = sorted(_models(old) - _models(new))
        if lacking:
            names = ", ".join(f"`{name[:80]}`" for name in lacking[:3])
            raise VerificationFailed(
                f"the new key lacks {len(lacking)} models that the old one may use: {names}",
                hint="is the old key of another project? Correct project in the secret's target,"
                " or allow the models in the project's limits",
            )

    def _end(self, values: Values, *, keep: Values | None, point: str) -> None:
        known = values.get(KEY_ID)
        kept = None if keep is None else keep.get(KEY_ID)
        same = keep is not None and value_of(values) == value_of(keep)
        self.refuse_in_use(same or (known is not None and known == kept), "the one in use")
        if known is not None:
            self._delete(known.reveal_text(), point=point)
            return
        found = self._identify(values, list(self._list()))
        if kept is not None:
            found = [key for key in found if _id_of(key) != kept.reveal_text()]
        if len(found) == 1 and not self.is_dead(values):
            self._delete(_id_of(found[0]), point=point)
        elif not self.is_soon_dead(values):
            raise self.by_hand(
                f"the old key was not made by Keyturn, and {len(found) or 'none'} of the keys in"
                f" `{self._target.project}` look like it: it has to be deleted by a person",
                _CONSOLE,
            )

    def _identify(
        self, values: Values, keys: Collection[Mapping[str, object]]
    ) -> list[Mapping[str, object]]:
        """Return the keys of the list that may be *values*; one is certain."""
        known = values.get(KEY_ID)
        if known is not None:
            return [key for key in keys if _id_of(key) == known.reveal_text()]
        value = value_of(values).reveal_text()
        return [key for key in keys if _looks_like(key, value)]

    def _delete(self, key_id: str, *, point: str) -> None:
        failpoints.hit(f"openai.{point}.call")
        self._api.request(
            "DELETE",
            f"{self._target.keys}/{segment(key_id)}",
            login=self._target.admin,
            expect=(404,),
            hint=self._target.hint,
        )
        failpoints.hit(f"openai.{point}.called")

    def _list(self) -> Iterator[Mapping[str, object]]:
        # Without `any`, keys are left out whose owner has lost access to the project.
        query = {"limit": str(_PAGE), "owner_project_access": "any"}
        for _ in range(_PAGES):
            answer = self._api.request(
                "GET",
                self._target.keys,
                login=self._target.admin,
                query=query,
                hint=self._target.hint,
            )
            rows = answer.rows("data")
            yield from rows
            if not answer.at("has_more") or not rows:
                return
            query = {**query, "after": _id_of(rows[-1])}
        raise Rejected(
            f"`{self._target.project}` has more than {_PAGE * _PAGES} keys",
            hint=f"delete those that nobody uses: {_CONSOLE}",
        )


def _id_of(key: Mapping[str, object]) -> str:
    return str(key.get("id", ""))


def _name_of(key: Mapping[str, object]) -> str:
    return str(key.get("name", ""))


def _looks_like(key: Mapping[str, object], value: str) -> bool:
    shown = _REDACTED.fullmatch(str(key.get("redacted_value", "")))
    if shown is None:
        return False
    first, last = shown.groups()
    return len(last) >= _LEAST_SHOWN and value.startswith(first) and value.endswith(last)


def _models(answer: Answer) -> set[str]:
    return {str(row.get("id", "")) for row in answer.rows("data")}
