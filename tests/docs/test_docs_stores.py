"""The pages on the team's stores say what the code does."""

from __future__ import annotations

from keyturn.core.ids import EnvironmentName
from keyturn.manifest import StoreKind
from keyturn.stores.vault import VaultSettings, policy
from tests.docs.documents import DOCS, blocks

PAGES = DOCS / "guides" / "stores"


def test_the_policy_is_the_one_that_is_needed():
    """Tests of the store run with exactly this policy."""
    (block,) = blocks(PAGES / "vault.md", language="hcl")
    settings = VaultSettings(("https://vault.example.com:8200",))
    assert block.text == policy(settings, "clipper", [EnvironmentName("production")])


def test_every_kind_of_store_is_named():
    """In the table of the page that all others are found from."""
    text = (DOCS / "guides" / "team-store.md").read_text(encoding="utf-8")
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = "".join(table)
    assert [] == [kind for kind in StoreKind if f"`{kind}`" not in named and kind != "embedded"]
