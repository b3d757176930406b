"""Which server and which login a kubeconfig or a pod means, and what is refused of it."""

from __future__ import annotations

import base64
import os

import pytest

from keyturn._internal.kubernetes_login import (
    ClusterLogin,
    from_kubeconfig,
    in_cluster,
)
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError
from keyturn.stores._kubernetes_config import _parsed

TOKEN = "fake-token-for-tests"  # noqa: S105 - obviously fake
USER = f"token: {TOKEN}"


def read(path, context=None):
    """Return the login of a kubeconfig."""
    return from_kubeconfig(path, context, parse=_parsed)


def written(tmp_path, *, user=USER, cluster="", server="https://10.0.0.1:6443", context=""):
    """Write a kubeconfig with two contexts and return its path."""
    path = tmp_path / "config"
    path.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: prod
clusters:
- name: one
  cluster:
    server: {server}
    {cluster}
contexts:
- name: prod
  context: {{cluster: one, user: keyturn, namespace: clipper{context}}}
- name: lost
  context: {{cluster: gone, user: keyturn}}
users:
- name: other
  user: {{}}
- name: keyturn
  user:
    {user}
"""
    )
    return path


def refused(action):
    """Return the words of a refusal, which never hold the token."""
    with pytest.raises(UsageError) as caught:
        action()
    assert "store.kubeconfig" == caught.value.code
    said = f"{caught.value.message} {caught.value.hint}"
    assert TOKEN not in said
    assert caught.value.__cause__ is None or TOKEN not in str(caught.value.__cause__)
    return said


def test_a_context_names_server_user_and_namespace(tmp_path):
    """The current context is taken where no other is named."""
    login = read(written(tmp_path))
    assert ("https://10.0.0.1:6443", "clipper") == (login.server, login.namespace)
    assert SecretValue.from_text(TOKEN) == login.bearer()
    assert login == read(written(tmp_path), "prod")
    assert TOKEN not in repr(login)


def test_a_token_file_is_read_each_time(tmp_path):
    """It stands beside the kubeconfig where its path is relative, and may change."""
    token = tmp_path / "token"
    token.write_text("one\n")
    login = read(written(tmp_path, user="tokenFile: token"))
    assert SecretValue(b"one") == login.bearer()
    token.write_text("two\n")
    assert SecretValue(b"two") == login.bearer()
    token.unlink()
    assert "cannot be read" in refused(login.bearer)


def test_certificates_are_inline_or_in_files(tmp_path):
    """The server's authority, and ours with its key."""
    (tmp_path / "ca.pem").write_text("authority")
    inline = base64.b64encode(b"mine").decode()
    key = base64.b64encode(b"key").decode()
    user = f"client-certificate-data: {inline}\n    client-key-data: {key}"
    login = read(
        written(
            tmp_path, user=user, cluster="certificate-authority: ca.pem\n    tls-server-name: k8s"
        )
    )
    assert ("authority", "mine", "k8s") == (login.authority, login.certificate, login.server_name)
    assert SecretValue(b"key") == login.key
    assert login.bearer() is None


@pytest.mark.parametrize(
    ("user", "cluster", "word"),
    [
        ("exec: {command: aws, apiVersion: v1}", "", "exec"),
        ("auth-provider: {name: gcp}", "", "auth-provider"),
        (f"{USER}\n    as: somebody", "", "as"),
        (f"username: admin\n    password: {TOKEN}", "", "username"),
        (USER, "insecure-skip-tls-verify: true", "insecure-skip-tls-verify"),
        (USER, "proxy-url: http://10.0.0.2:3128", "proxy-url"),
    ],
)
def test_what_is_less_safe_than_it_looks_is_refused(tmp_path, user, cluster, word):
    """It is named, and the hint says what to use."""
    said = refused(lambda: read(written(tmp_path, user=user, cluster=cluster)))
    assert f"`{word}`" in said
    assert "kubectl create token" in said


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("http://10.0.0.1:8080", "plain http to another machine"),
        ("https://user:pass@10.0.0.1", "holds more than"),
        ("ftp://10.0.0.1", "not an https address"),
        ("https://10.0.0.1:x", "is not an address"),
    ],
)
def test_a_server_is_https_or_this_machine(tmp_path, server, words):
    """What would send a token in clear is refused before it is sent."""
    assert words in refused(lambda: read(written(tmp_path, server=server)))
    read(written(tmp_path, server="http://127.0.0.1:8001"))


@pytest.mark.parametrize("user", ["client-certificate-data: bWluZQ==", "token: ''"])
def test_half_a_login_is_none(tmp_path, user):
    """A certificate needs its key, and an empty token is none."""
    assert "neither a token nor a certificate" in refused(
        lambda: read(written(tmp_path, user=user))
    )


def test_a_proxy_on_this_machine_logs_in_by_itself(tmp_path):
    """As `kubectl proxy` does; its context needs no user."""
    path = written(tmp_path, server="http://127.0.0.1:8001")
    path.write_text(path.read_text().replace("user: keyturn, namespace", "namespace"))
    assert read(path).bearer() is None
    other = written(tmp_path)
    other.write_text(other.read_text().replace("user: keyturn, namespace", "namespace"))
    assert "in `users`" in refused(lambda: read(other))


def test_what_is_missing_is_named(tmp_path):
    """A context, its cluster, a file that is not there."""
    path = written(tmp_path)
    assert "no `nowhere` in `contexts`" in refused(lambda: read(path, "nowhere"))
    assert "no `gone` in `clusters`" in refused(lambda: read(path, "lost"))
    assert "cannot be read" in refused(lambda: read(tmp_path / "none"))
    bad = written(tmp_path, cluster="certificate-authority-data: '!!!'")
    assert "not base64" in refused(lambda: read(bad))


@pytest.mark.parametrize("content", [f"token: [{TOKEN}", "- a list", f"{TOKEN}: &a [*a, {{"])
def test_what_is_no_kubeconfig_is_not_quoted(tmp_path, content):
    """A parser's own words would quote the line."""
    path = tmp_path / "config"
    path.write_text(content)
    assert "not YAML of the usual form" in refused(lambda: read(path))


def test_a_kubeconfig_that_does_not_end_is_refused(tmp_path):
    """Its size is bounded, and a pipe is no file."""
    path = tmp_path / "config"
    path.write_bytes(b"#" * 1_048_577)
    assert "too long" in refused(lambda: read(path))
    os.mkfifo(tmp_path / "pipe")
    assert "no file" in refused(lambda: read(tmp_path / "pipe"))


def test_a_pod_has_a_login_of_its_own(tmp_path):
    """Address by variables; authority, token and namespace by files."""
    for name, text in {"ca.crt": "authority", "token": "one", "namespace": "clipper\n"}.items():
        (tmp_path / name).write_text(text)
    variables = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    login = in_cluster(variables, folder=tmp_path)
    assert ("https://[fd00::1]:6443", "clipper", "authority") == (
        login.server,
        login.namespace,
        login.authority,
    )
    (tmp_path / "token").write_text("two")
    assert SecretValue(b"two") == login.bearer()


def test_outside_of_a_pod_there_is_none(tmp_path):
    """And a pod without an account is told so."""
    assert in_cluster({}, folder=tmp_path) is None
    assert "cannot be read" in refused(
        lambda: in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, folder=tmp_path)
    )


def test_a_login_checks_its_server():
    """Wherever it comes from."""
    refused(lambda: ClusterLogin("http://example.com", "the test"))
