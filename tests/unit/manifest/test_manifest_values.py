"""Values that were written into `[config]`: refused, and never quoted."""

from __future__ import annotations

import pytest

from keyturn.errors import ManifestError
from keyturn.manifest import load

HEAD = '[project]\nname = "a"\n[environments.e]\n[config]\n'
GUID = "0f8b2c1d-1111-4222-8333-9a7c5d3e1f20"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "https://hooks.slack.com/services/T1A/B2C/c3d4e5f6g7h8"),
        ("X", "https://hooks.slack.com/workflows/T1A/A2C/123/c3d4e5f6g7h8"),
        ("X", "https://discord.com/api/webhooks/112233445566/aB3-dE5_fG7hI9jK"),
        ("X", "https://discordapp.com/api/v10/webhooks/112233445566/aB3-dE5_fG7hI9jK"),
        ("X", f"https://acme.webhook.office.com/webhookb2/{GUID}@{GUID}/IncomingWebhook/9a8b7c"),
        ("X", f"https://outlook.office.com/webhook/{GUID}@{GUID}/IncomingWebhook/9a8b7c"),
        ("X", "https://api.telegram.org/bot" + "123456789:AAHk3jd82kdl-2kd93kd02kd92kd"),
        ("BASIC_AUTH", "admin:hunter22"),
        ("METRICS_AUTH_LINE", "admin:hunter22"),
        ("API_CREDENTIALS", "admin:hunter22"),
        ("LDAP_BIND_PW", "hunter22"),
        ("SMTP_PASSWORD", "/hunter/22"),
    ],
)
def test_a_value_in_a_setting_is_refused(name, value):
    """With its line, and without the text."""
    with pytest.raises(ManifestError) as caught:
        load(f'{HEAD}{name} = "{value}"\n'.encode(), file="k")

    assert {5} == {p.line for p in caught.value.problems}
    assert value.rpartition("/")[2] not in "".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLACK_URL", "https://hooks.slack.com/services/XXX/YYY/ZZZ"),
        ("SLACK_URL", "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXX"),
        ("HOOK", "http://localhost:8080/webhooks/stripe"),
        ("HOOK", "https://discord.com/api/webhooks/your-id/your-token"),
        ("BASIC_AUTH", "user:password"),
        ("BASIC_AUTH", "admin:${ADMIN_PART}"),
        ("AUTH_ADDR", "auth:8080"),
        ("AUTH_UPSTREAM", "auth:8080"),
        ("AUTH_SCOPES", "read:user"),
        ("AUTH_URL", "https://auth.example.org/x"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/secrets/gcp"),
    ],
)
def test_an_ordinary_setting_is_taken(name, value):
    """Placeholders, hosts with ports, addresses, scopes and paths."""
    manifest = load(f'{HEAD}{name} = "{value}"\n'.encode(), file="k")

    assert {name: value} == manifest.config_in("e")
