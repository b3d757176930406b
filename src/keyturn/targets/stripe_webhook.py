"""
The secret that Stripe signs the calls to a webhook with.

Stripe's API cannot give an endpoint a new secret. So a second endpoint of the same
address and events is made, which has its own, and the old endpoint is deleted later:

    phase 1   value = new, alt = old; both endpoints send every event
    phase 2   value = new, alt empty; the old endpoint is disabled
    retired   the old endpoint is deleted

A secret without the field `alt` has the first phase only: of the two copies of an
event, the one that is signed with the other secret is refused by the application.

Each endpoint that is made carries the rotation's token in its metadata. Its secret is
in no later answer, so one whose making was not answered is deleted and made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keyturn._internal import failpoints
from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, VerificationFailed
from keyturn.targets._base import OnePhase
from keyturn.targets._http import Answer, Login, Vendor, segment, until
from keyturn.targets._stripe_api import api, pages_v1
from keyturn.targets._stripe_signature import accepts, signature_header
from keyturn.targets._target_table import admin_field, faulty, optional_text, words
from keyturn.targets._vendor_key import STILL_WORKS, VALUE, value_of

__all__ = ["StripeWebhookSecret", "build"]

ALT = FieldName("alt")
ENDPOINT_ID = FieldName("endpoint_id")
OLD_ENDPOINT_ID = FieldName("old_endpoint_id")
_PATH = "/v1/webhook_endpoints"
_TOKEN = "keyturn_token"  # noqa: S105 - the name of a piece of metadata
_HINT = "the Stripe key that admin names needs the right to write webhook endpoints"
_PAYLOAD = b'{"object":"event","type":"keyturn.check"}'
_TWICE = (
    "until the old endpoint is deleted each event is sent twice, and the application,"
    " which knows one secret, refuses one of the two"
)
_Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the manifest says of the endpoint."""

    url: str | None
    endpoint: str | None
    events: tuple[str, ...]


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a webhook's signing secret.

    Raises:
        UsageError: The target names no key to administer with, or no endpoint.
    """
    if context.admin is None:
        raise faulty(context, "does not say `admin`", 'add admin = "a secret of kind stripe-key"')
    wanted = _Wanted(
        optional_text(context, "url"), optional_text(context, "endpoint"), words(context, "events")
    )
    if wanted.url is None and wanted.endpoint is None:
        raise faulty(context, "says neither `url` nor `endpoint`", 'add url = "https://..."')
    key = admin_field(context, context.admin, "value")
    login = Login.bearer(key, f"the key `{context.admin_name}`")
    return StripeWebhookSecret(context, api(context), login, wanted)


class StripeWebhookSecret(OnePhase):
    """
    Two endpoints of one address, of which the older is deleted in the end.

    Args:
        rehearsing: What is made is disabled at once, so that it sends nothing.
    """

    def __init__(
        self,
        context: KindContext,
        stripe: Vendor,
        login: Login,
        wanted: _Wanted,
        *,
        rehearsing: bool = False,
    ) -> None:
        self._context = context
        self._stripe = stripe
        self._login = login
        self._wanted = wanted
        self._rehearsing = rehearsing
        self._has_alt = ALT in context.fields

    def later_waits(self, grace_seconds: int) -> Sequence[int]:  # noqa: ARG002 - the port's
        """Return that the second phase lasts until consumers have it, where there is one."""
        return (0,) if self._has_alt else ()

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do; reads Stripe's list of endpoints."""
        template = self._template(current, self._endpoints())
        address = self._wanted.url if template is None else template.get("url")
        lines = [
            ("create", f"a second endpoint for {address}, with the same events"),
            ("check", "sign an event with the new secret, and verify it"),
        ]
        if template is None:
            return lines
        if self._has_alt:
            lines += [
                ("deliver", "the new secret and, as `alt`, the old one: both are accepted"),
                ("advance", "disable the old endpoint, and empty `alt`"),
            ]
        else:
            lines.append(("deliver", _TWICE))
        lines += [
            ("retire", "delete the old endpoint"),
            ("prove", "it is gone, and what it signed is no longer accepted"),
        ]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Return the secret of a new endpoint, like the one in use.

        Raises:
            Rejected: Which endpoint is in use cannot be told, or Stripe makes no more.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.

        Crash safety:
            What an earlier call with *token* made is deleted first.
        """
        template = self._template(current, self._delete_made(self._endpoints(), token))
        answer = self._make(template, token)
        endpoint = answer.text("id")
        if self._rehearsing:
            self._set_disabled(endpoint, disabled=True, point="rehearse")
        values = {VALUE: answer.secret("secret"), ENDPOINT_ID: SecretValue.from_text(endpoint)}
        if template is not None:
            values[OLD_ENDPOINT_ID] = SecretValue.from_text(str(template.get("id")))
        if self._has_alt:
            values[ALT] = SecretValue(b"") if current is None else current[VALUE]
        return values

    def sweep(self, token: Token, *, current: Values) -> None:
        """End what *token* made besides *current*: a request that was given up came late."""
        self.clean_up(token, current=current)

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """Delete the endpoints that `create` with *token* made, but for that of *current*."""
        own = None if current is None else _text(current, ENDPOINT_ID)
        self._delete_made((row for row in self._endpoints() if row.get("id") != own), token)

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: the new endpoint sends events since it was made."""

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Verify a signature by the new secret, and compare the endpoint with the old one.

        Raises:
            VerificationFailed: It is not there, not enabled, or not like the old one.
        """
        self._require_round_trip(pending)
        new = self._found(_text(pending, ENDPOINT_ID))
        if new is None:
            raise VerificationFailed(
                "the new endpoint is not there", hint="was it deleted in the dashboard?"
            )
        if new.at("status") != "enabled" and not self._rehearsing:
            raise VerificationFailed(
                "the new endpoint is disabled", hint="enable it in the dashboard, and resume"
            )
        old_id = _text(pending, OLD_ENDPOINT_ID)
        old = None if current is None else self._found(old_id)
        if old is not None:
            _require_alike(new, old)
        return Evidence("signature verified", "by the new secret; the endpoint is as the old one")

    def advance(self, current: Values, phase: int) -> Values:
        """
        Disable the old endpoint, and return the values without its secret.

        Crash safety:
            Disabling is repeated without harm, and the values are the same again.
        """
        if not self._has_alt:
            return super().advance(current, phase)
        old = _text(current, OLD_ENDPOINT_ID)
        if old is not None and self._found(old) is not None:
            self._set_disabled(old, disabled=True, point="advance")
        return {**current, ALT: SecretValue(b"")}

    def recede(self, current: Values, phase: int) -> None:  # noqa: ARG002 - the port's
        """Enable the old endpoint again."""
        old = _text(current, OLD_ENDPOINT_ID)
        if old is not None and self._found(old) is not None:
            self._set_disabled(old, disabled=False, point="recede")

    def withdraw(self, current: Values | None, pending: Values) -> None:  # noqa: ARG002 - the port's
        """Delete the new endpoint; the one of *current* stays as it is."""
        self._delete(_text(pending, ENDPOINT_ID), point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Delete the old endpoint.

        Raises:
            Rejected: It is the endpoint in use.
        """
        endpoint, own = self._old_id(old, current), _text(current, ENDPOINT_ID)
        if endpoint is not None and endpoint == own:
            raise Rejected(
                f"`{endpoint}` is the endpoint in use, and is not deleted",
                hint=f"see `keyturn history {self._context.ref.name}`",
                code="target.in-use",
            )
        self._delete(endpoint, point="retire")
        # A rotation that went back to where both are accepted left the one before as well.
        before = _text(old, OLD_ENDPOINT_ID)
        if before not in (endpoint, own):
            self._delete(before, point="retire.before")

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Ask for the old endpoint and find none; verify that its secret signs nothing more.

        Raises:
            VerificationFailed: It is there, or what it signs is accepted by *current*.
            Unavailable: No answer, so nothing is proven.
        """
        endpoint = self._old_id(old, current)
        if endpoint is None:
            raise VerificationFailed(
                "which endpoint the old secret belongs to is not known",
                hint='write endpoint = "we_..." in the secret\'s target',
            )

        self._require_gone(endpoint)
        if current is None:
            return Evidence("404", f"`{endpoint}` is gone")
        secrets, before = _known(old), _text(old, OLD_ENDPOINT_ID)
        if self._rehearsing:
            # What was thrown away was made beside the one in use, and knows it.
            secrets, before = [old[VALUE]], None
        if before is not None and before != _text(current, ENDPOINT_ID):
            self._require_gone(before)
        self._require_refused(secrets, current)
        return Evidence("404", f"`{endpoint}` is gone, and the old signature is refused")

    def _require_gone(self, endpoint: str) -> None:
        def gone() -> bool | None:
            return True if self._found(endpoint) is None else None

        if until(self._context.clock, gone) is None:
            raise VerificationFailed(
                f"the old endpoint `{endpoint}` still sends events",
                hint="delete it in Stripe's dashboard (Webhooks), and resume",
                code=STILL_WORKS,
            )

    def _require_refused(self, secrets: Iterable[SecretValue], current: Values) -> None:
        clock = self._context.clock
        for secret in secrets:
            header = signature_header(secret, _PAYLOAD, clock=clock)
            if accepts(_known(current), _PAYLOAD, header, clock=clock):
                raise VerificationFailed(
                    "what the old secret signs is still accepted by what consumers were given",
                    hint=f"see `keyturn history {self._context.ref.name}`",
                    code=STILL_WORKS,
                )

    def probe(self, values: Values) -> Evidence:
        """
        Verify a signature, and look for the endpoint where its id is known.

        Raises:
            VerificationFailed: It is not there or sends nothing.
            Unavailable: No answer.
        """
        self._require_round_trip(values)
        endpoint = _text(values, ENDPOINT_ID) or self._wanted.endpoint
        if endpoint is None:
            self._require_by_hand()
            return Evidence("signature verified", "which endpoint it is of is not known")
        found = self._found(endpoint)
        if found is None or found.at("status") != "enabled":
            raise VerificationFailed(
                f"the endpoint `{endpoint}` {'is not there' if found is None else 'is disabled'}",
                hint="see Webhooks in Stripe's dashboard",
            )
        return Evidence("signature verified", f"`{endpoint}` is enabled")

    def _require_by_hand(self) -> None:
        """
        Return where Stripe has an endpoint that a secret without an id can be of.

        Raises:
            VerificationFailed: All that have the address were made by a rotation.
        """
        mine = [row for row in self._endpoints() if row.get("url") == self._wanted.url]
        if not any(row.get("status") == "enabled" and _token_of(row) is None for row in mine):
            raise VerificationFailed(
                "the secret was set by hand, and no endpoint that was made by hand sends to"
                " its address",
                hint='if it is of one that Keyturn made, write endpoint = "we_..." in the'
                " secret's target",
            )

    def rehearsal(self) -> RotationKind | None:
        """Return these steps for an endpoint that is disabled as soon as it is made."""
        return StripeWebhookSecret(
            self._context, self._stripe, self._login, self._wanted, rehearsing=True
        )

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the id of the endpoint of *pending*, and where it is deleted."""
        what = f"the endpoint `{_text(pending, ENDPOINT_ID)}`, which is to be disabled,"
        return what, "delete it in Stripe's dashboard (Webhooks)"

    def _require_round_trip(self, values: Values) -> None:
        clock = self._context.clock
        header = signature_header(value_of(values), _PAYLOAD, clock=clock)
        if not accepts(_known(values), _PAYLOAD, header, clock=clock):
            raise VerificationFailed(
                "a signature by the secret is not accepted by it",
                hint="see `keyturn test`, which looks at its form",
            )

    def _endpoints(self) -> list[_Row]:
        return list(pages_v1(self._stripe, _PATH, self._login, _HINT))

    def _template(self, current: Values | None, rows: Sequence[_Row]) -> _Row | None:
        """
        Return the endpoint in use; None for a first one.

        Raises:
            Rejected: There is none, or more than one may be it; or a first one is to be
                made, and there is one already.
        """
        name = None if current is None else _text(current, ENDPOINT_ID)
        name = name or self._wanted.endpoint
        wanted = ("url", self._wanted.url) if name is None else ("id", name)
        found = [row for row in rows if row.get(wanted[0]) == wanted[1]]
        if current is None:
            self._require_first(found)
            return None
        if len(found) != 1:
            made = ", ".join(f"`{row.get('id')}`" for row in found if _token_of(row) is not None)
            more = f"; rotations made {made}: delete in the dashboard what is not in use"
            raise Rejected(
                f"Stripe has {len(found) or 'no'} endpoints `{wanted[1]}`, so which is in use"
                " cannot be told",
                hint=f'write endpoint = "we_..." in the secret\'s target{more if made else ""}',
                code="target.unknown",
            )
        return found[0]

    def _require_first(self, found: Sequence[_Row]) -> None:
        if found:
            raise Rejected(
                f"Stripe has the endpoint `{found[0].get('id')}` already, and its secret is not"
                " stored",
                hint="reveal its signing secret in the dashboard (Webhooks), then:"
                f" keyturn set {self._context.ref.name} -e {self._context.ref.environment}",
                code="target.exists",
            )
        if self._wanted.url is None or not self._wanted.events:
            raise Rejected(
                "a first endpoint needs an address and the events to send",
                hint="write url and events in the secret's target",
                code="target.unknown",
            )

    def _make(self, template: _Row | None, token: Token) -> Answer:
        form = _form_of(template) if template is not None else _first_form(self._wanted)
        form[f"metadata[{_TOKEN}]"] = token
        form["metadata[keyturn_secret]"] = f"{self._context.project}/{self._context.ref}"
        failpoints.hit("stripe_webhook.create.call")
        answer = self._stripe.request("POST", _PATH, login=self._login, form=form, hint=_HINT)
        failpoints.hit("stripe_webhook.create.called")
        return answer

    def _found(self, endpoint: str | None) -> Answer | None:
        if endpoint is None:
            return None
        answer = self._stripe.request(
            "GET", f"{_PATH}/{segment(endpoint)}", login=self._login, expect={404}, hint=_HINT
        )
        return answer if answer.succeeded else None

    def _set_disabled(self, endpoint: str, *, disabled: bool, point: str) -> None:
        failpoints.hit(f"stripe_webhook.{point}.call")
        self._stripe.request(
            "POST",
            f"{_PATH}/{segment(endpoint)}",
            login=self._login,
            form={"disabled": "true" if disabled else "false"},
            hint=_HINT,
        )
        failpoints.hit(f"stripe_webhook.{point}.called")

    def _delete_made(self, rows: Iterable[_Row], token: Token) -> list[_Row]:
        """Delete what was made with *token*, and return the others."""
        others = []
        for row in rows:
            if _token_of(row) == token:
                self._delete(str(row.get("id")), point="orphan")
            else:
                others.append(row)
        return others

    def _delete(self, endpoint: str | None, *, point: str) -> None:
        if endpoint is None:
            return
        failpoints.hit(f"stripe_webhook.{point}.call")
        self._stripe.request(
            "DELETE", f"{_PATH}/{segment(endpoint)}", login=self._login, expect={404}, hint=_HINT
        )
        failpoints.hit(f"stripe_webhook.{point}.called")

    def _old_id(self, old: Values, current: Values | None) -> str | None:
        recorded = None if current is None else _text(current, OLD_ENDPOINT_ID)
        return _text(old, ENDPOINT_ID) or recorded or self._wanted.endpoint


def _known(values: Values) -> list[SecretValue]:
    """Return the secrets that an application accepts which was given *values*."""
    return [values[field] for field in (VALUE, ALT) if values.get(field)]


def _text(values: Values, field: FieldName) -> str | None:
    found = values.get(field)
    return found.reveal_text() if found else None


def _token_of(row: _Row) -> object:
    """Return the token of the rotation that made *row*; None for one made by hand."""
    metadata = row.get("metadata")
    return metadata.get(_TOKEN) if isinstance(metadata, dict) else None


def _form_of(template: _Row) -> dict[str, str | SecretValue]:
    """Return what makes an endpoint like *template*."""
    form: dict[str, str | SecretValue] = {"url": str(template.get("url"))}
    events = template.get("enabled_events")
    for place, name in enumerate(events if isinstance(events, list) else []):
        form[f"enabled_events[{place}]"] = str(name)
    for name in ("api_version", "description"):
        if isinstance(template.get(name), str) and template.get(name):
            form[name] = str(template[name])
    # Stripe shows an application for endpoints that listen to connected accounts.
    if template.get("application"):
        form["connect"] = "true"
    metadata = template.get("metadata")
    for name, text in (metadata if isinstance(metadata, dict) else {}).items():
        form[f"metadata[{name}]"] = str(text)
    return form


def _first_form(wanted: _Wanted) -> dict[str, str | SecretValue]:
    events = {f"enabled_events[{place}]": name for place, name in enumerate(wanted.events)}
    return {"url": str(wanted.url), **events}


def _require_alike(new: Answer, old: Answer) -> None:
    for name in ("url", "enabled_events", "api_version", "livemode"):
        if _comparable(new.at(name)) != _comparable(old.at(name)):
            raise VerificationFailed(
                f"the new endpoint's `{name}` is not the old one's",
                hint="was one of them changed in the dashboard? resume to compare again",
            )


def _comparable(found: object) -> object:
    return sorted(map(str, found)) if isinstance(found, list) else found
