"""
Stripe's secret and restricted keys.

Stripe's public API makes no keys: a person makes the new one in the dashboard, and
deletes the old one there. Keyturn shows the steps, examines the key before it is
stored, and asks Stripe until the old one is refused.

With `preview = true` the preview API does both. It can also rotate a key in one call,
which is not used: that call starts the old key's last minutes at once, so the way back
would lead to a key that dies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, Unavailable, VerificationFailed
from keyturn.targets._http import LOGIN_REFUSED, until
from keyturn.targets._stripe_api import Standing, api, standing
from keyturn.targets._target_table import flag
from keyturn.targets._vendor_key import STILL_WORKS, VALUE, value_of
from keyturn.targets.guided import GuidedKind, refuse_old, resume_hint, typed, waits

__all__ = ["StripeKey", "build", "require_other"]

_FORM = re.compile(r"(sk|rk)_(live|test)_[A-Za-z0-9]{16,}", re.ASCII)
_OTHERS = {
    "pk_": "a publishable key, which is no secret",
    "whsec_": "a webhook's signing secret",
    "ek_": "an ephemeral key",
    "mk_": "a key's id, not the key",
}
# A person waits for the answer to what was typed; a step has more patience.
_TYPED_SECONDS = 2.0
_STEP_SECONDS = 20.0


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a Stripe key.

    Raises:
        UsageError: The target's `base_url` or `preview` cannot be used.
    """
    if flag(context, "preview"):
        from keyturn.targets._stripe_preview import StripeKeyByApi

        return StripeKeyByApi(context)
    return StripeKey(context)


class StripeKey(GuidedKind):
    """A key that a person makes and deletes in the dashboard."""

    def __init__(self, context: KindContext) -> None:
        super().__init__(context)
        self._stripe = api(context)

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        lines = [("create", line) for line in self.instructions(current)]
        lines.append(("check", "read the balance; same account and mode as the present key"))
        if current is not None:
            lines.append(("retire", "you delete the old key in the dashboard; it is looked for"))
            lines.append(("prove", "Stripe refuses the old key (401)"))
        return lines

    def instructions(self, current: Values | None) -> Sequence[str]:
        """Return what to do in the dashboard."""
        mode = "live mode" if self._context.protected else "the mode that this environment is for"
        lines = [
            f"open Developers, API keys in Stripe's dashboard, in {mode}",
            "create a key (restricted, with the rights that the service needs)",
            "copy it: Stripe shows it once",
        ]
        if current is not None:
            lines.append("leave the present key as it is: it is needed until this rotation is done")
        return lines

    def examine(self, current: Values | None, values: Values) -> None:
        """
        Look at the form and the mode, and try the key.

        Raises:
            VerificationFailed: It is no such key, a test key for a protected environment,
                the old key again, of another mode or account, or refused by Stripe.
            Unavailable: Stripe did not answer.
        """
        self._accept(current, values, patience_seconds=_TYPED_SECONDS)

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Try the key, and compare it with the present one.

        Raises:
            VerificationFailed: As `examine`; or the present restricted key may read the
                balance and this one may not.
        """
        return self._accept(current, pending, patience_seconds=_STEP_SECONDS)

    def withdraw(self, current: Values | None, pending: Values) -> None:  # noqa: ARG002 - the port's
        """
        Return where Stripe refuses *pending*.

        Raises:
            NotYet: It is not used and works: a person has to delete it.
        """
        if standing(self._stripe, pending[VALUE]).live:
            raise waits(
                self._context.ref,
                "the new key is not used after all and still works: delete it in Stripe's"
                " dashboard (Developers, API keys)",
                looked_at=True,
            )

    def retire(self, current: Values, old: Values) -> None:
        """
        Return where Stripe refuses *old*.

        Raises:
            NotYet: It works still: a person has to delete it.
            Rejected: It is the key in use.
        """
        require_other(current, old)
        if standing(self._stripe, old[VALUE]).live:
            raise waits(
                self._context.ref,
                "every consumer has the new key; delete the old one in Stripe's dashboard"
                " (Developers, API keys)",
                looked_at=True,
            )

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Ask Stripe with *old* and be refused, while *current* is not.

        Raises:
            VerificationFailed: It still works.
            Unavailable: No answer, or one that proves nothing.
        """

        def refused() -> Standing | None:
            found = standing(self._stripe, old[VALUE])
            return None if found.live else found

        found = until(self._context.clock, refused, seconds=_STEP_SECONDS)
        if found is None:
            raise VerificationFailed(
                "the old key still works at Stripe",
                hint="delete it in Stripe's dashboard (Developers, API keys), "
                + resume_hint(self._context.ref),
                code=STILL_WORKS,
            )
        if current is not None and not standing(self._stripe, current[VALUE]).live:
            raise Unavailable(
                "Stripe refuses the key in use as well, so that proves nothing of the old one",
                hint="check base_url in the secret's target, and the key in use",
            )
        return Evidence("key refused", f"401 {found.words}")

    def probe(self, values: Values) -> Evidence:
        """
        Ask Stripe with the key, once.

        Raises:
            VerificationFailed: It is refused.
            Unavailable: No answer.
        """
        found = standing(self._stripe, value_of(values))
        if not found.live:
            raise _refused(found, "the key")
        return _seen(found, _mode(_matched(typed(values, VALUE))), "")

    def _accept(
        self, current: Values | None, values: Values, *, patience_seconds: float
    ) -> Evidence:
        match = _matched(typed(values, VALUE))
        mode = _mode(match)
        if mode == "test" and self._context.protected:
            raise VerificationFailed(
                f"this is a test key, and `{self._context.ref.environment}` is protected",
                hint="switch the dashboard to live mode and make the key there",
                code="value.mode",
            )
        refuse_old(current, values, (VALUE,))
        new = self._standing(values[VALUE], patience_seconds)
        if not new.live:
            raise _refused(new, "the new key")
        return _seen(new, mode, self._compare(current, match, new))

    def _standing(self, key: SecretValue, patience_seconds: float) -> Standing:
        last = None

        # A key that was just made is not known to all of Stripe's machines at once.
        def live() -> Standing | None:
            nonlocal last
            last = standing(self._stripe, key)
            return last if last.live else None

        found = until(self._context.clock, live, seconds=patience_seconds)
        return found or last or standing(self._stripe, key)

    def _compare(self, current: Values | None, match: re.Match[str], new: Standing) -> str:
        """Return what could be compared with *current*, in words."""
        if current is None:
            return ""
        try:
            before = _matched(typed(current, VALUE))
        except VerificationFailed:
            return "; the present value is no key, so nothing was compared"
        if _mode(before) != _mode(match):
            raise VerificationFailed(
                f"this is a {_mode(match)} key, and the present one is a {_mode(before)} key",
                hint="make it in the same mode of the dashboard",
                code="value.mode",
            )
        old = standing(self._stripe, current[VALUE])
        if not old.live:
            return "; the present key is refused, so the accounts were not compared"
        if old.account is None or new.account is None:
            return "; Stripe did not name both accounts, so they were not compared"
        if old.account != new.account:
            raise VerificationFailed(
                f"this is a key of `{new.account}`, and the present one is of `{old.account}`",
                hint="choose the present key's account in the dashboard and make the key there",
                code="value.account",
            )
        # From an unrestricted key to a restricted one is what Stripe advises.
        restricted = before[1] == match[1] == "rk"
        if restricted and old.reads_balance and not new.reads_balance:
            raise VerificationFailed(
                "the present key may read the balance, and this one may not",
                hint="give the new key the rights of the present one",
                code="value.rights",
            )
        return ", as the present key's"


def require_other(current: Values, old: Values) -> None:
    """
    Return where *old* is another key than *current*.

    Raises:
        Rejected: It is the key in use.
    """
    if value_of(old) == value_of(current):
        raise Rejected(
            "the key to end at Stripe is the one in use, and is not ended",
            hint="see `keyturn history`: two versions hold the same key",
            code="target.in-use",
        )


def _matched(text: str) -> re.Match[str]:
    match = _FORM.fullmatch(text)
    if match is not None:
        return match
    what = next((what for prefix, what in _OTHERS.items() if text.startswith(prefix)), None)
    raise VerificationFailed(
        "this is no Stripe key" if what is None else f"this is {what}",
        hint="a key begins with `sk_live_`, `rk_live_`, `sk_test_` or `rk_test_`",
        code="value.form",
    )


def _mode(match: re.Match[str]) -> str:
    return match[2]


def _refused(found: Standing, which: str) -> VerificationFailed:
    return VerificationFailed(
        f"Stripe refuses {which}: {found.words}",
        hint="copy it again from the dashboard, or make another",
        code=LOGIN_REFUSED,
    )


def _seen(found: Standing, mode: str, compared: str) -> Evidence:
    what = "balance read" if found.reads_balance else "restricted, and live"
    account = "an account that Stripe does not name" if found.account is None else found.account
    return Evidence("key accepted", f"{what}, {mode} mode, account {account}{compared}")
