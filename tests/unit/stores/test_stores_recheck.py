"""What a bundle is told of its store, so that the store can be asked without its client."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn._fastread.aws import _is_at
from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import Origin, SecretRef, Version, VersionedValue
from keyturn.core.value import SecretValue
from keyturn.stores import _aws_recheck, _vault_recheck
from keyturn.stores._aws_record import Mark, version_id
from keyturn.stores._recheck import server_rows
from keyturn.stores.vault import AuthMethod, VaultAuth, VaultSettings

ENVIRONMENT = EnvironmentName("production")
DB, LATE = SecretName("main-db"), SecretName("late")
FIELDS = (FieldName("password"), FieldName("username"))
DECLARED = {DB: FIELDS, LATE: (FieldName("value"),)}
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


def given(*, drifted=False, fields=FIELDS):
    version = Version(SecretRef(ENVIRONMENT, DB), 7, MOMENT, Origin.ROTATED, FIELDS)
    values = {field: SecretValue(b"test-value") for field in fields}
    return {DB: VersionedValue(replace(version, drifted=drifted), values)}


class Place:
    """Names keys as a document for an environment does."""

    def __init__(self, key=lambda name, field: f"{name}_{field}"):
        self._key = key

    def live_key(self, name, field):
        return self._key(name, field)


def vault(*, place=None, held=None, serving=("https://v.example.com:8200/x", ""), **changes):
    settings = VaultSettings(("https://v.example.com:8200/x",), **changes)
    return _vault_recheck.recheck_rows(
        settings,
        place or Place(),
        "secret/data/clipper/production",
        DECLARED,
        given() if held is None else held,
        serving=serving,
    )


def test_where_and_what():
    """Server, path, token, and for each field whether it has to be there."""
    rows = vault(namespace="team", ca_file="/a file.pem")
    assert [
        ("kind", "vault"),
        ("tls", "yes"),
        ("host", "v.example.com"),
        ("port", "8200"),
        ("authority", "v.example.com:8200"),
        ("ca_file", "/a file.pem"),
        ("path", "/x/v1/secret/data/clipper/production"),
        ("namespace", "team"),
        ("token_variable", "VAULT_TOKEN"),
        ("field", "main-db_password", "main-db.password"),
        ("field", "main-db_username", "main-db.username"),
        ("absent", "late_value"),
    ] == list(rows)


def test_a_field_without_a_value_has_to_be_absent():
    """Of a secret that has others."""
    rows = vault(held=given(fields=FIELDS[:1]))
    assert ("absent", "main-db_username") in rows


def test_the_index_of_a_cluster_is_kept():
    """So that no copy answers that is behind."""
    assert ("index", "abc=") in vault(serving=("https://v.example.com", "abc="))


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (VaultAuth(token_file=Path("/t")), [("token_file", "/t")]),
        (
            VaultAuth(AuthMethod.APPROLE, role_id="r", secret_id_file=Path("/s"), mount="a/b c"),
            [
                ("login", "/x/v1/auth/a/b%20c/login"),
                ("end", "/x/v1/auth/token/revoke-self"),
                ("role_id", "r"),
                ("secret_id_file", "/s"),
            ],
        ),
        (
            VaultAuth(AuthMethod.JWT, jwt_file=Path("/j")),
            [
                ("login", "/x/v1/auth/jwt/login"),
                ("end", "/x/v1/auth/token/revoke-self"),
                ("jwt_file", "/j"),
            ],
        ),
    ],
)
def test_how_to_log_in(auth, expected):
    """Where a secret is, and never one."""
    rows = vault(auth=auth)
    assert expected == [row for row in rows if row[0] in {row[0] for row in expected}]


KUBERNETES = VaultAuth(AuthMethod.KUBERNETES, role="run")


def test_kubernetes_has_a_usual_token():
    """And a role."""
    rows = dict(row for row in vault(auth=KUBERNETES) if len(row) == 2)
    assert ("run", "/var/run/secrets/kubernetes.io/serviceaccount/token") == (
        rows["role"],
        rows["jwt_file"],
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"auth": VaultAuth(AuthMethod.USERPASS, username="ada")},
        {
            "auth": VaultAuth(
                AuthMethod.APPROLE, role_id="r", secret_id_file=Path("/s"), wrapped=True
            )
        },
        {"serving": None},
        {"held": given(drifted=True)},
        {"place": Place(lambda name, field: "one")},
    ],
    ids=["a person", "wrapped", "no index", "drifted", "one key for two"],
)
def test_where_it_cannot_be_asked(changes):
    """There are no lines, and it is read the slow way."""
    assert [] == list(vault(**changes))


def aws(*, address="https://s.example.com", held=None, profile=None):
    return _aws_recheck.recheck_rows(
        ENVIRONMENT,
        DECLARED,
        given() if held is None else held,
        name_of=lambda ref: f"clipper/{ref.environment}/{ref.name}",
        endpoint=(address, "eu-central-1", "/ca.pem"),
        profile=profile,
    )


def test_versions_by_their_labels():
    """As the label on the version says it, and what has no value stands for absent."""
    rows = aws(profile="team")
    said = ("7", "r", "1767323045000006", "password+username")
    assert ("secret", "clipper/production/main-db", *said) in rows
    assert ("secret", "clipper/production/late", "-") in rows
    assert {("region", "eu-central-1"), ("profile", "team"), ("port", "443")} <= set(rows)
    id_ = version_id(7, Origin.ROTATED, "0" * 32)
    mark = Mark(id_, 7, Origin.ROTATED, "j", MOMENT, FIELDS)
    entry = {"VersionId": id_, "VersionStages": ["AWSCURRENT", mark.label]}
    assert _is_at(entry, [word.encode() for word in said])


@pytest.mark.parametrize("changes", [{"held": given(drifted=True)}, {"address": "https://x/y"}])
def test_where_aws_cannot_be_asked(changes):
    """There are no lines."""
    assert [] == list(aws(**changes))


def test_addresses():
    """With the usual port, and without brackets where an address is meant."""
    rows = dict(server_rows("http://[::1]:8200", None))
    assert ("no", "::1", "8200", "[::1]:8200") == tuple(rows.values())
    assert "80" == dict(server_rows("http://localhost", None))["port"]
