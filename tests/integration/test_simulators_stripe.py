"""The simulator of Stripe behaves as Stripe's own client expects."""

from __future__ import annotations

import time

import pytest
import stripe

from keyturn.testing.simulators import Fault
from keyturn.testing.simulators.stripe import StripeSimulator
from tests.worlds.stripe_key import client

URL = "https://clipper.example/webhooks/stripe"
PREVIEW = {"stripe_version": "2026-10-14.preview"}


@pytest.fixture
def simulator():
    with StripeSimulator() as running:
        yield running


@pytest.fixture
def account(simulator):
    return simulator.make_account()


@pytest.fixture
def sdk(simulator, account):
    return client(simulator, simulator.make_key(account).value)


def test_an_unknown_key_is_no_login(simulator):
    """The client raises what it raises for a key that Stripe does not know."""
    with pytest.raises(stripe.AuthenticationError) as caught:
        client(simulator, "sk_live_" + "0" * 24).v1.balance.retrieve()
    assert 401 == caught.value.http_status
    assert "Invalid API Key provided: sk_live_********************0000" == str(caught.value)


def test_an_ended_key_is_expired(simulator, account):
    """A key that was deleted is refused with the code of its own that Stripe documents."""
    key = simulator.make_key(account)
    simulator.delete_key(key.value)
    with pytest.raises(stripe.AuthenticationError) as caught:
        client(simulator, key.value).v1.balance.retrieve()
    assert "api_key_expired" == caught.value.json_body["error"]["code"]


def test_a_restricted_key_is_denied_and_told_its_account(simulator, account):
    """What it may not do is a permission error that names account and permission."""
    key = simulator.make_key(account, prefix="rk_live_", permissions=["rak_webhook_write"])
    restricted = client(simulator, key.value)
    with pytest.raises(stripe.PermissionError) as caught:
        restricted.v1.balance.retrieve()
    assert account in str(caught.value)
    assert "rak_balance_read" in str(caught.value)
    assert [] == restricted.v1.webhook_endpoints.list().data


def test_a_secret_key_reads_balance_and_account(sdk, account):
    """The two harmless reads answer with the client's own types."""
    assert "balance" == sdk.v1.balance.retrieve().object
    assert account == sdk.v1.accounts.retrieve_current().id


def test_an_endpoint_lives_from_creation_to_deletion(sdk):
    """Its secret is in the first answer only; it can be disabled, and is gone at the end."""
    made = sdk.v1.webhook_endpoints.create(
        {"url": URL, "enabled_events": ["invoice.paid"], "metadata": {"team": "payments"}}
    )
    assert made.secret.startswith("whsec_")
    found = sdk.v1.webhook_endpoints.retrieve(made.id)
    assert "secret" not in found
    assert ("enabled", {"team": "payments"}) == (found.status, found.metadata.to_dict())
    assert "disabled" == sdk.v1.webhook_endpoints.update(made.id, {"disabled": True}).status
    assert sdk.v1.webhook_endpoints.delete(made.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sdk.v1.webhook_endpoints.retrieve(made.id)
    assert (404, "resource_missing") == (caught.value.http_status, caught.value.code)


def test_an_endpoint_needs_events(sdk):
    """What is missing is named as Stripe names it."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sdk.v1.webhook_endpoints.create({"url": URL, "enabled_events": []})
    assert "parameter_missing" == caught.value.code


def test_a_list_has_pages(sdk):
    """The client walks all pages, newest first."""
    made = [
        sdk.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]}).id for _ in range(5)
    ]
    page = sdk.v1.webhook_endpoints.list({"limit": 2})
    assert made[::-1] == [endpoint.id for endpoint in page.auto_paging_iter()]


def test_live_and_test_mode_do_not_meet(simulator, account, sdk):
    """A test key does not see what a live one made."""
    sdk.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]})
    other = client(simulator, simulator.make_key(account, prefix="sk_test_").value)
    assert [] == other.v1.webhook_endpoints.list().data


def test_the_client_verifies_what_is_signed(simulator, sdk):
    """An event signed by the simulator is one that the client's own verification accepts."""
    made = sdk.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]})
    payload = b'{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{}}}'
    header = simulator.sign(simulator.endpoints[made.id], payload, at=int(time.time()))
    event = stripe.Webhook.construct_event(payload, header, made.secret, api_key="unused")
    assert "invoice.paid" == event.type
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(payload, header, "whsec_other", api_key="unused")


def test_keys_by_the_preview_api(simulator, sdk):
    """A live key comes back sealed for the caller's RSA key, and ends when it is expired."""
    from joserfc import jwe
    from joserfc.jwk import RSAKey

    ours = RSAKey.generate_key(2048, private=True)
    pem = ours.as_pem(private=False).decode()
    made = sdk.raw_request(
        "post",
        "/v2/iam/api_keys",
        type="secret_key",
        name="second",
        public_key={"id": "mine", "pem_key": {"algorithm": "RSA", "data": pem}},
        **PREVIEW,
    )
    made = sdk.deserialize(made, api_mode="V2")
    sealed = made.secret_key.encrypted_secret
    assert ("jwe_compact", "mine") == (sealed.format, sealed.recipient_key_id)
    opened = jwe.decrypt_compact(
        sealed.ciphertext, ours, algorithms=["RSA-OAEP-256", "A256GCM"]
    ).plaintext.decode()
    assert "balance" == client(simulator, opened).v1.balance.retrieve().object
    sdk.raw_request("post", f"/v2/iam/api_keys/{made.id}/expire", **PREVIEW)
    with pytest.raises(stripe.AuthenticationError):
        client(simulator, opened).v1.balance.retrieve()


def test_keys_without_the_preview_version(sdk):
    """The public versions know no such address."""
    with pytest.raises(stripe.StripeError) as caught:
        sdk.raw_request("get", "/v2/iam/api_keys")
    assert 404 == caught.value.http_status


def test_faults(simulator, sdk):
    """A limit is the client's rate limit error, and a lost answer leaves what was made."""
    simulator.fail_next("GET /v1/balance", Fault.LIMITED)
    with pytest.raises(stripe.RateLimitError):
        sdk.v1.balance.retrieve()
    simulator.fail_next("GET /v1/balance", Fault.BROKEN_BEFORE)
    with pytest.raises(stripe.APIError):
        sdk.v1.balance.retrieve()
    simulator.fail_next("POST /v1/webhook_endpoints", Fault.LOST)
    with pytest.raises(stripe.APIConnectionError):
        sdk.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]})
    assert 1 == len(sdk.v1.webhook_endpoints.list().data)
