"""`[backup]`: who can open every backup."""

from __future__ import annotations

import pytest

from keyturn.crypto import new_identity, recipient
from keyturn.errors import ManifestError
from keyturn.manifest import BackupSettings, load

REST = """\
[project]
name = "clipper"
[environments.development]
store = "local"
"""


def test_recipients():
    """In the order of the manifest; none where the table is left out."""
    keys = [recipient(new_identity()) for _ in range(2)]
    listed = ", ".join(f'"{key}"' for key in keys)
    manifest = load(f"{REST}[backup]\nrecipients = [{listed}]\n".encode(), file="keyturn.toml")
    assert BackupSettings(recipients=tuple(keys)) == manifest.backup
    assert BackupSettings() == load(REST.encode(), file="keyturn.toml").backup


@pytest.mark.parametrize(
    "table", ['recipients = ["age1x"]', 'recipients = ["ssh-ed25519 AAAA"]', "recipient = []"]
)
def test_what_is_none_is_refused(table):
    """With its place, before a backup is made for nobody."""
    with pytest.raises(ManifestError) as caught:
        load(f"{REST}[backup]\n{table}\n".encode(), file="keyturn.toml")
    assert "backup" in str(caught.value.problems[0])
