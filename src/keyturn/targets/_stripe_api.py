"""What is asked of Stripe: who a key is, and lists of what there is, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from keyturn.core.ports import KindContext
from keyturn.core.value import SecretValue
from keyturn.errors import Unavailable
from keyturn.targets._http import Login, Vendor, vendor

__all__ = ["Standing", "api", "pages_v1", "pages_v2", "standing"]

_BASE_URL = "https://api.stripe.com"
# Stripe's refusal names the account, which a restricted key may not ask for by itself.
_ACCOUNT = re.compile(r"'(acct_[A-Za-z0-9]{1,64})'")
# A refusal of the sender's address is no word about the key.
_ABOUT_ADDRESS = re.compile(r"\bIP address", re.IGNORECASE)
_MAX_PAGES = 20
_PAGE_ROWS = "100"


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What a key is to Stripe.

    Args:
        account: Its account's id; None where Stripe did not say.
        reads_balance: It may read the balance; one that may not is live all the same.
        words: Stripe's reason for refusing it; empty for a key that is live.
    """

    live: bool
    account: str | None
    reads_balance: bool
    words: str


def api(context: KindContext) -> Vendor:
    """
    Return Stripe's API at the target's `base_url`.

    Raises:
        UsageError: The address cannot be used.
    """
    return vendor("Stripe", context, _BASE_URL)


def standing(stripe: Vendor, key: SecretValue) -> Standing:
    """
    Ask Stripe what *key* is; changes nothing.

    Raises:
        Unavailable: No answer, or one that says neither yes nor no.
    """
    login = Login.bearer(key, "the key")
    balance = stripe.request("GET", "/v1/balance", login=login, expect={401, 403})
    if not balance.succeeded and _ABOUT_ADDRESS.search(balance.words()):
        raise Unavailable(
            f"Stripe answered {balance.status}, which says nothing of the key: {balance.words()}",
            hint="let this machine's address use the key, in Stripe's dashboard",
        )
    if balance.status == 401:  # noqa: PLR2004 - not authenticated
        # An expired key has a code of its own; of an unknown one, the message is all.
        known = balance.error_code() == "api_key_expired"
        words = "api_key_expired" if known else balance.words()
        return Standing(live=False, account=None, reads_balance=False, words=words)
    account = _named(balance.at("error", "message"))
    if account is None:
        found = stripe.request("GET", "/v1/account", login=login, expect={401, 403, 404})
        named = found.at("id")
        account = named if isinstance(named, str) else _named(found.at("error", "message"))
    return Standing(live=True, account=account, reads_balance=balance.succeeded, words="")


def pages_v1(stripe: Vendor, path: str, login: Login, hint: str) -> Iterator[Mapping[str, object]]:
    """
    Return all that a list of the first API has.

    Raises:
        Unavailable: No answer, or it does not end.
    """
    query = {"limit": _PAGE_ROWS}
    for _ in range(_MAX_PAGES):
        answer = stripe.request("GET", path, login=login, query=query, hint=hint)
        rows = answer.rows("data")
        yield from rows
        if answer.at("has_more") is not True or not rows:
            return
        query = {"limit": _PAGE_ROWS, "starting_after": str(rows[-1].get("id"))}
    raise _endless(path)


def pages_v2(
    stripe: Vendor,
    path: str,
    login: Login,
    *,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    hint: str,
) -> Iterator[Mapping[str, object]]:
    """
    Return all that a list of the second API has; raises as `pages_v1`.

    Only the query of the next page's address is used: a key goes to no other host.
    """
    for _ in range(_MAX_PAGES):
        answer = stripe.request("GET", path, login=login, query=query, headers=headers, hint=hint)
        yield from answer.rows("data")
        following = answer.at("next_page_url")
        if not isinstance(following, str) or not following:
            return
        query = dict(parse_qsl(urlsplit(following).query))
    raise _endless(path)


def _named(message: object) -> str | None:
    match = _ACCOUNT.search(message) if isinstance(message, str) else None
    return None if match is None else match[1]


def _endless(path: str) -> Unavailable:
    return Unavailable(
        f"Stripe's list `{path}` has more than {_MAX_PAGES} pages", hint="remove what is not used"
    )
