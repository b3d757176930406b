"""What `[stores]` may say: keys by kind, what each must have, and the faults told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyturn.core.ids import EnvironmentName, StoreName
from keyturn.errors import ManifestError
from keyturn.manifest import LiveKeys, StoreKind, load

HEAD = """\
[project]
name = "clipper"
[environments.production]
store = "team"
"""


def stores(text):
    return load((HEAD + text).encode(), file="keyturn.toml").stores


def problems(text):
    with pytest.raises(ManifestError) as refusal:
        stores(text)
    return refusal.value.problems


def test_keys_of_the_kind_are_kept():
    """They are its options; what every kind has is not among them."""
    (store,) = stores(
        """\
[stores.team]
kind = "vault"
address = ["https://a:8200", "https://b:8200"]
path = "clipper/{environment}"
cache = "30s"
[stores.team.auth]
method = "approle"
role_id = "x"
secret_id_file = "/run/secret-id"
"""
    ).values()
    assert (store.kind, store.is_outside) == (StoreKind.VAULT, True)
    assert store.cache == timedelta(seconds=30)
    assert store.keys is LiveKeys.NAMES
    assert set(store.options) == {"address", "path", "auth"}
    assert store.options["auth"]["method"] == "approle"


def test_defaults():
    """A minute without asking; files are read by variable."""
    (store,) = stores('[stores.team]\nkind = "dotenv"\n').values()
    assert store.cache == timedelta(minutes=1)
    assert store.keys is LiveKeys.VARIABLES
    (named,) = stores('[stores.team]\nkind = "dotenv"\nkeys = "names"\n').values()
    assert named.keys is LiveKeys.NAMES


def test_embedded_is_not_outside():
    """It is Keyturn's own."""
    (store,) = stores('[stores.team]\nkind = "embedded"\n').values()
    assert (store.name, store.is_outside) == (StoreName("team"), False)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('kind = "vault"', "stores.team", "needs `address`"),
        ('kind = "compose"', "stores.team", "needs `folder`"),
        ('kind = "embedded"\naddress = "https://a"', "stores.team.address", "no such key"),
        ('kind = "aws"\nmount = "x"', "stores.team.mount", "no such key"),
        (
            'kind = "vault"\naddress = "https://a"\nlayout = "secrets"',
            "stores.team.layout",
            "no such layout",
        ),
        ('kind = "vault"\naddress = "ftp://a"', "stores.team.address", "is not an address"),
        ('kind = "aws"\nrecovery_days = 3', "stores.team.recovery_days", "whole number"),
        (
            'kind = "vault"\naddress = "https://a"\nauth = { mount = "x" }',
            "stores.team.auth",
            "lacks `method`",
        ),
        ('kind = "dotenv"\ncache = "99999999w"', "stores.team.cache", "longer than ten years"),
    ],
)
def test_fault_is_told(text, key, words):
    """Each at its key."""
    found = problems(f"[stores.team]\n{text}\n")
    assert [(problem.key, words in problem.message) for problem in found] == [(key, True)]


def test_last_good_is_of_an_environment():
    """Without it `run` refuses when the store does not answer."""
    text = HEAD + 'last_good = "12h"\n[stores.team]\nkind = "dotenv"\n'
    manifest = load(text.encode(), file="keyturn.toml")
    environment = manifest.environments[EnvironmentName("production")]
    assert environment.last_good == timedelta(hours=12)
    plain = load((HEAD + '[stores.team]\nkind = "dotenv"\n').encode(), file="keyturn.toml")
    assert plain.environments[EnvironmentName("production")].last_good is None
