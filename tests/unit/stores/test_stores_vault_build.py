"""The store in Vault as the manifest describes it; nothing is sent."""

from __future__ import annotations

import pytest

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected, UsageError
from keyturn.manifest import LiveKeys, StoreKind, StoreSettings
from keyturn.stores._context import StoreContext
from keyturn.stores.vault import AuthMethod, VaultSettings, VaultShape, build, policy
from keyturn.testing import FakeClock, SeededEntropy

PRODUCTION = EnvironmentName("production")
ADDRESS = "https://vault.example.com:8200"


@pytest.fixture
def store(tmp_path):
    """Return a function that builds a store from what the manifest says."""

    def make(keys=LiveKeys.NAMES, **options):
        options.setdefault("address", ADDRESS)
        return build(
            StoreContext(
                StoreSettings(StoreName("team"), StoreKind.VAULT, options, keys=keys),
                project="clipper",
                folder=tmp_path,
                state=tmp_path / ".keyturn",
                clock=FakeClock(),
                entropy=SeededEntropy(),
                variable=lambda ref, field: "DATABASE_URL" if field == "url" else None,
                facts=lambda ref: {},
                ask=lambda prompt: SecretValue(b""),
                keep=lambda environment: None,
            )
        )

    return make


def key(store, field):
    name = SecretName("main-db")
    return store._layout.place(SecretRef(PRODUCTION, name)).live_key(name, FieldName(field))


def test_what_is_left_out(store):
    """The usual mount, one path for an environment, and a token."""
    made = store()
    assert made.where == f"secret/clipper on {ADDRESS}"
    settings = made._layout._settings
    assert (settings.shape, settings.auth.method) == (VaultShape.ENVIRONMENT, AuthMethod.TOKEN)


def test_everything_that_can_be_said(store, tmp_path):
    """Paths of files are taken from the project's folder, and from the home."""
    made = store(
        address=[ADDRESS, "https://other.example.com"],
        mount="team/kv/",
        path="apps/{environment}",
        layout="secret",
        namespace="team",
        auth={
            "method": "approle",
            "mount": "ci",
            "role_id": "r",
            "secret_id_file": "keys/secret-id",
            "wrapped": True,
        },
    )
    settings = made._layout._settings
    assert settings.addresses == (ADDRESS, "https://other.example.com")
    assert (settings.mount, settings.path) == ("team/kv", "apps/{environment}")
    assert (settings.shape, settings.namespace) == (VaultShape.SECRET, "team")
    auth = settings.auth
    assert auth.secret_id_file == tmp_path / "keys/secret-id"
    assert (auth.method, auth.mount, auth.wrapped) == (AuthMethod.APPROLE, "ci", True)


@pytest.mark.parametrize(
    ("keys", "layout", "url", "value"),
    [
        (LiveKeys.NAMES, "environment", "main_db_url", "main_db"),
        (LiveKeys.NAMES, "secret", "url", "value"),
        (LiveKeys.VARIABLES, "environment", "DATABASE_URL", "MAIN_DB"),
        (LiveKeys.VARIABLES, "secret", "DATABASE_URL", "MAIN_DB"),
    ],
)
def test_what_fields_are_called(store, keys, layout, url, value):
    """By their names or by their variables, in both layouts."""
    made = store(keys, layout=layout)
    assert (key(made, "url"), key(made, "value")) == (url, value)


def test_names_that_would_lead_elsewhere(store):
    """No path is made of them."""
    for environment, name in (("production", "../other"), ("../x", "db"), ("production", "")):
        with pytest.raises(Rejected):
            store()._layout.place(SecretRef(EnvironmentName(environment), SecretName(name)))


@pytest.mark.parametrize(
    "options",
    [
        {"path": "{project}"},
        {"path": "keyturn/{environment}"},
        {"address": "http://vault.example.com"},
        {"auth": {"method": "jwt"}},
        {"ca_file": "absent.pem"},
    ],
)
def test_what_cannot_be_used(store, options):
    """It is refused as a fault of the settings, before anything is sent."""
    with pytest.raises(UsageError) as raised:
        store(**options)
    assert raised.value.hint


def test_the_policy_names_no_path_of_an_application_beside_the_live_one():
    """An application that may read everything below its own path reads nothing of ours."""
    settings = VaultSettings((ADDRESS,), path="clipper/{environment}")
    lines = policy(settings, "clipper", [PRODUCTION]).splitlines()
    paths = [line.split('"')[1] for line in lines]
    ours = [
        path
        for path in paths
        if path.startswith(("secret/data/keyturn/", "secret/metadata/keyturn/"))
    ]
    assert sorted(set(paths) - set(ours)) == [
        "secret/data/clipper/production",
        "secret/destroy/clipper/production",
        "secret/metadata/clipper/production",
    ]
