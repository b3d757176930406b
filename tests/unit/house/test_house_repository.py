"""The repository speaks of itself alone, and holds nothing that a machine left there."""

from __future__ import annotations

import re

import pytest

from tests._plugins import source

MAX_FILE_BYTES = 1_000_000

# Put together here, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.}-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot")) + r")/")
DOWNLOADS = re.compile(
    r"https?://[^\s\"'<>)]*(?:"
    r"\.(?:whl|tar\.gz|tgz|zip|deb|rpm|tar\.xz|gem|crate|jar|exe|dmg|msi)\b"
    r"|/releases/download/|raw\.github"
    r")"
    r"|https?://[^\s/\"'<>)]*(?:pypi|pythonhosted|npmjs|deb\.debian|docker\.io|ghcr)"
)
PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{64}")


def texts():
    """Return each tracked file that holds text, with it."""
    for name in source.tracked():
        data = (source.ROOT / name).read_bytes()
        if b"\0" not in data:
            yield name, data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "pattern", [MACHINE_PATHS, DOWNLOADS, PRIVATE_KEY], ids=["machine", "download", "key"]
)
def test_no_file_holds(pattern):
    """No path of one machine, no address to download from, no private key."""
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0][:60]}"
        for name, text in texts()
        for match in pattern.finditer(text)
    ]
    assert [] == found


def test_no_file_is_a_state_or_a_value():
    """Neither `.env` files nor a store's own files are part of the repository."""
    found = [
        name
        for name in source.tracked()
        if re.search(r"(^|/)(\.keyturn/|\.env(\.(?!example$)[^/]*)?$)", name)
    ]
    assert [] == found


def test_no_file_is_huge():
    """A repository that is cloned to be tried stays small."""
    big = [n for n in source.tracked() if (source.ROOT / n).stat().st_size > MAX_FILE_BYTES]
    assert [] == big


def test_decisions_are_numbered_without_gaps():
    """Each decision record has a number of its own and the headings that make it comparable."""
    records = sorted((source.ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [int(record.name.split("-")[0]) for record in records]
    assert list(range(1, len(records) + 1)) == numbers
    headings = ["Problem", "What the user sees", "Design", "Alternatives", "Downsides", "Security"]
    for record in records:
        found = re.findall(r"^## (.+)$", record.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == found, record.name


def test_links_between_documents_lead_somewhere():
    """A relative link in a Markdown file names a file that exists."""
    broken = []
    for name, text in texts():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
                if "://" not in target and not target.startswith("mailto:"):
                    if not ((source.ROOT / name).parent / target).exists():
                        broken.append(f"{name}: {target}")
    assert [] == broken
