"""SendGrid's simulator, driven by SendGrid's own client."""

from __future__ import annotations

import contextlib

import pytest
import sendgrid
from python_http_client import exceptions

from keyturn.testing.simulators import Fault
from keyturn.testing.simulators.sendgrid import MAY_MANAGE, SendGridSimulator
from tests.worlds.sendgrid_key import error_close


@pytest.fixture()
def simulator():
    """An account without a key."""
    with SendGridSimulator() as simulator:
        yield simulator


def client(simulator, key):
    """SendGrid's client with *key*."""
    return sendgrid.SendGridAPIClient(key, host=simulator.base_url).client


@contextlib.contextmanager
def refused(family):
    """Expect the client's error *family*, and close what it leaves open."""
    with pytest.raises(family) as caught:
        yield caught
    error_close(caught.value)


def test_a_key_lives_from_its_creation_to_its_deletion(simulator):
    """Made, listed without its value, used, deleted, refused: by the vendor's client alone."""
    admin = client(simulator, simulator.make_by_hand(*MAY_MANAGE, "mail.send"))
    answer = admin.api_keys.post(request_body={"name": "one", "scopes": ["mail.send"]})
    assert answer.status_code == 201
    made = answer.to_dict
    assert len(made["api_key"]) == 69
    assert made["api_key"].split(".")[1] == made["api_key_id"]
    listed = admin.api_keys.get()
    assert {"api_key_id": made["api_key_id"], "name": "one"} in listed.to_dict["result"]
    assert made["api_key"] not in listed.body.decode()
    shown = admin.api_keys._(made["api_key_id"]).get().to_dict
    assert shown["scopes"] == ["mail.send"]
    user = client(simulator, made["api_key"])
    assert user.mail.send.post(request_body={}).status_code == 202
    assert "mail.send" in user.scopes.get().to_dict["scopes"]
    assert admin.api_keys._(made["api_key_id"]).delete().status_code == 204
    with refused(exceptions.UnauthorizedError):
        user.scopes.get()
    with refused(exceptions.NotFoundError):
        admin.api_keys._(made["api_key_id"]).delete()
    with refused(exceptions.NotFoundError):
        admin.api_keys._(made["api_key_id"]).get()
    assert simulator.sent == 1
    assert made["api_key"] not in repr((simulator.journal, simulator.keys))


def test_refusals_are_the_vendors_own(simulator):
    """No right, too much asked, a wrong body, no room: the client's error classes."""
    admin = client(simulator, simulator.make_by_hand(*MAY_MANAGE, "mail.send"))
    weak = client(simulator, simulator.make_by_hand("mail.send"))
    with refused(exceptions.ForbiddenError):
        weak.api_keys.get()
    with refused(exceptions.ForbiddenError):
        admin.api_keys.post(request_body={"name": "x", "scopes": ["stats.read"]})
    with refused(exceptions.BadRequestsError) as caught:
        admin.api_keys.post(request_body={"scopes": ["mail.send"]})
    assert caught.value.to_dict["errors"][0]["field"] == "name"
    with refused(exceptions.BadRequestsError):
        admin.api_keys.post(request_body={"name": "x", "scopes": ["2fa_required"]})
    simulator.most_keys = 2
    with refused(exceptions.ForbiddenError):
        admin.api_keys.post(request_body={"name": "x", "scopes": ["mail.send"]})
    assert len(simulator.live()) == 2


def test_faults_are_the_vendors_own(simulator):
    """A limit and an error of the server, as the vendor's client sees them."""
    user = client(simulator, simulator.make_by_hand("mail.send"))
    simulator.fail_next("/v3/scopes", Fault.LIMITED, seconds=9)
    with refused(exceptions.TooManyRequestsError) as caught:
        user.scopes.get()
    assert caught.value.headers["Retry-After"] == "9"
    simulator.fail_next("/v3/scopes", Fault.BROKEN_BEFORE)
    with refused(exceptions.InternalServerError):
        user.scopes.get()
    assert user.scopes.get().status_code == 200
