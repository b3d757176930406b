"""
A Twitch application's client id and secret.

Only the developer console makes secrets, and an application has one: making a new one
ends the old one at that moment. So there is an outage from the press of the button
until every consumer has the new secret, and no way back.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn._internal import failpoints
from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Unavailable, UsageError, VerificationFailed
from keyturn.targets._http import LOGIN_REFUSED, Answer, Login, until, vendor
from keyturn.targets._vendor_key import STILL_WORKS
from keyturn.targets.guided import GuidedKind, refuse_old, resume_hint, typed

__all__ = ["TwitchApp", "build"]

CLIENT_ID = FieldName("client_id")
CLIENT_SECRET = FieldName("client_secret")
_BASE_URL = "https://id.twitch.tv"
_STEP_SECONDS = 20.0
# `invalid client`, `invalid client secret`: all that Twitch says of a pair it refuses.
_REFUSAL = "invalid client"


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a Twitch application.

    Raises:
        UsageError: The secret lacks a field, or the target's `base_url` cannot be used.
    """
    missing = {CLIENT_ID, CLIENT_SECRET} - set(context.fields)
    if missing:
        raise UsageError(
            f"the secret `{context.ref.name}` has no field `{min(missing)}`",
            hint='write fields = { client_id = "VARIABLE", client_secret = "VARIABLE" }:'
            " they change together",
            code="rotation.target",
        )
    return TwitchApp(context)


class TwitchApp(GuidedKind):
    """An application whose secret a person makes in the console."""

    overlaps = False
    reversible = False

    def __init__(self, context: KindContext) -> None:
        super().__init__(context)
        self._twitch = vendor("Twitch", context, _BASE_URL)

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do, and what it breaks meanwhile."""
        lines = [("create", line) for line in self.instructions(current)]
        lines.append(("check", "get an app access token with the new secret, and revoke it"))
        if current is not None:
            lines.append(("retire", "nothing: the new secret ended the old one"))
            lines.append(("prove", "Twitch gives no token for the old secret"))
        return lines

    def instructions(self, current: Values | None) -> Sequence[str]:
        """Return what to do in the console."""
        if current is None:
            return [
                "register the application in Twitch's developer console (Applications)",
                "copy its client id, press New Secret, and copy the secret",
            ]
        return [
            "outage: the old secret ends when the new one is made, and there is no way back",
            "be ready to give the new one here, and have all consumers up",
            "open the application in Twitch's developer console (Applications, Manage)",
            "press New Secret, confirm, and copy the secret at once",
            "the client id stays the same: copy it from the same page",
        ]

    def examine(self, current: Values | None, values: Values) -> None:
        """
        Look at the form, and get a token with the pair.

        Raises:
            VerificationFailed: It cannot be such a pair, is another application's, the
                old one again, or refused by Twitch.
            Unavailable: Twitch did not answer.
        """
        self._accept(current, values)

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Get a token with the pair, and revoke it; raises as `examine`."""
        return self._accept(current, pending)

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Do nothing: what ended the old secret cannot be undone at Twitch."""

    def retire(self, current: Values, old: Values) -> None:
        """Do nothing: the new secret ended the old one."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Ask for a token with *old* and be refused, while *current* is not.

        Raises:
            VerificationFailed: It was given one.
            Unavailable: No answer, or one that proves nothing.
        """

        def refused() -> Answer | None:
            answer = self._token(old)
            if not answer.succeeded:
                return answer
            self._revoke(old, answer)
            return None

        answer = until(self._context.clock, refused, seconds=_STEP_SECONDS)
        if answer is None:
            raise VerificationFailed(
                "Twitch still gives tokens for the old secret",
                hint="press New Secret in the developer console, and give that one: "
                + resume_hint(self._context.ref),
                code=STILL_WORKS,
            )
        if current is not None:
            self._require_token(current)
        return Evidence("token refused", f"{answer.status} {answer.words()}")

    def probe(self, values: Values) -> Evidence:
        """
        Get a token with the pair, and revoke it.

        Raises:
            VerificationFailed: It is refused.
            Unavailable: No answer.
        """
        return self._try(values)

    def counted_on(self, values: Values) -> SecretValue | None:
        """Return the client: Twitch may turn it away after some failures."""
        return values.get(CLIENT_ID)

    def _accept(self, current: Values | None, values: Values) -> Evidence:
        _require_form(values)
        refuse_old(current, values, (CLIENT_SECRET,))
        if current is not None and current.get(CLIENT_ID) != values[CLIENT_ID]:
            raise VerificationFailed(
                "this client id is another application's: tokens of users would end with it",
                hint="copy the id of the application in use; to move to another one, use"
                f" `keyturn set {self._context.ref.name} -e {self._context.ref.environment}`",
                code="value.account",
            )
        return self._try(values)

    def _require_token(self, current: Values) -> None:
        answer = self._token(current)
        if not answer.succeeded:
            raise Unavailable(
                "Twitch refuses the secret in use as well, so that proves nothing of the old one",
                hint="check base_url in the secret's target, and the secret in use",
            )
        self._revoke(current, answer)

    def _try(self, values: Values) -> Evidence:
        answer = self._token(values)
        if not answer.succeeded:
            raise VerificationFailed(
                f"Twitch refuses it: {answer.words()}",
                hint="copy both again from the same page of the developer console",
                code=LOGIN_REFUSED,
            )
        return Evidence("token given", self._revoke(values, answer))

    def _token(self, values: Values) -> Answer:
        # Not counted as a change: what it makes is ended at once, and by itself in time.
        failpoints.hit("twitch.token.call")
        answer = self._twitch.request(
            "POST",
            "/oauth2/token",
            form={
                "client_id": values[CLIENT_ID],
                "client_secret": values[CLIENT_SECRET],
                "grant_type": "client_credentials",
            },
            changing=False,
            expect={400, 403},
        )
        failpoints.hit("twitch.token.called")
        if not answer.succeeded and not answer.words().startswith(_REFUSAL):
            raise Unavailable(
                f"Twitch answered {answer.status}, which says nothing of the secret:"
                f" {answer.words() or 'no reason given'}",
                hint="run the command again later",
            )
        return answer

    def _revoke(self, values: Values, given: Answer) -> str:
        """Revoke the token that was *given*, and return what became of it, in words."""
        token = given.secret("access_token")
        try:
            seen = self._twitch.request(
                "GET", "/oauth2/validate", login=Login("OAuth", token, "the new token")
            )
            failpoints.hit("twitch.revoke.call")
            self._twitch.request(
                "POST", "/oauth2/revoke", form={"client_id": values[CLIENT_ID], "token": token}
            )
            failpoints.hit("twitch.revoke.called")
            same = seen.secret("client_id") == values[CLIENT_ID]
        except KeyturnError:
            # The pair is proven; the token opens nothing of a user's, and ends by itself.
            return "an app access token, which could not be revoked and ends by itself"
        return "an app access token" + (" of this application" if same else "") + ", since revoked"


def _require_form(values: Values) -> None:
    """
    Return where *values* may be an id and a secret.

    Twitch's are thirty small letters and digits, which it does not promise.

    Raises:
        VerificationFailed: They are certainly none.
    """
    for field in (CLIENT_ID, CLIENT_SECRET):
        text = typed(values, field)
        if not (text.isascii() and text.isalnum()):
            raise VerificationFailed(
                f"what was given as `{field}` has characters that Twitch does not use",
                hint="copy it alone: small letters and digits",
                code="value.form",
            )
    if values[CLIENT_ID] == values[CLIENT_SECRET]:
        raise VerificationFailed(
            "the same text was given as id and as secret",
            hint="the secret is shown once, after New Secret was pressed",
            code="value.form",
        )
