"""Settings of the store on AWS, and its waits."""

from __future__ import annotations

import pytest

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import InternalError, UsageError
from keyturn.stores._aws_calls import WAIT_SECONDS, Pauses, SecretsApi
from keyturn.stores._aws_secrets import AwsSecrets, AwsSettings
from keyturn.testing import FakeClock, SeededEntropy

REF = SecretRef(EnvironmentName("production"), SecretName("db"))


def secrets():
    """Return the calls of a store that is not there."""
    api = SecretsApi(
        region="eu-central-1",
        endpoint_url="http://127.0.0.1:1",
        profile=None,
        clock=FakeClock(),
        entropy=SeededEntropy(),
    )
    return AwsSecrets(api, AwsSettings("eu-central-1"), project="clipper", facts=lambda _: {})


@pytest.mark.parametrize(
    "prefix",
    ["", "{project}/", "{environment}", "{environment}{x}/", "{environment} /", "{environment}/{"],
)
def test_prefix_that_cannot_work_is_refused(prefix):
    """Two environments must not share names, and AWS must take them."""
    with pytest.raises(UsageError, match="prefix"):
        AwsSettings("eu-central-1", prefix=prefix).check()


@pytest.mark.parametrize("days", [0, 6, 31])
def test_recovery_window_is_awss(days):
    """Seven to thirty days."""
    with pytest.raises(UsageError, match="recovery_days"):
        AwsSettings("eu-central-1", recovery_days=days).check()
    AwsSettings("eu-central-1", recovery_days=7).check()


def test_names_are_those_of_the_guide():
    """Hyphens become underscores, and a field stands behind its secret."""
    ref = SecretRef(REF.environment, SecretName("jwt-key"))
    assert secrets().name(ref) == "clipper/production/jwt_key"
    assert secrets().name(REF, "password") == "clipper/production/db_password"


def test_current_never_leaves_a_secret():
    """An emulator would allow it, and AWS would not: it is not even asked."""
    with pytest.raises(InternalError, match="nothing current"):
        secrets().move(REF, "AWSCURRENT", to=None, off="x" * 32)


@pytest.mark.parametrize("labels", [[], ["AWSCURRENT"], ["mine", "AWSCURRENT"]])
def test_stored_version_is_never_current_at_once(labels):
    """No labels at all would make it current too."""
    with pytest.raises(InternalError, match="current before it is promoted"):
        secrets().put(REF, "x" * 32, {"SecretString": "fake"}, labels)


def test_waits_are_bounded_and_grow():
    """The first try is at once; all of them end within the limit."""
    clock = FakeClock()
    began = clock.monotonic()
    moments = [clock.monotonic() - began for _ in Pauses(clock, SeededEntropy(), WAIT_SECONDS)]
    assert moments[0] == 0
    assert 5 < len(moments) < 30
    assert moments == sorted(moments)
    assert WAIT_SECONDS / 2 < moments[-1] <= WAIT_SECONDS
