"""JUnit text: whatever a check says, the document stays whole."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from keyturn.app.checks import Check, Result
from keyturn.cli.junit import junit_xml

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@given(st.text(st.characters()), st.sampled_from(Result), st.booleans())
def test_any_text_can_be_read_back(detail, result, unreachable):
    """Markup, control characters and lone surrogates as well; and it can be encoded."""
    check = Check("be x.env", "live", result, detail, 0.5, unreachable)
    text = junit_xml("clipper", "development", [check], at=NOON, consumer=None)
    [suite] = ElementTree.fromstring(text.encode("utf-8"))
    assert "2026-01-31T12:00:00" == suite.get("timestamp")
    case = suite.find("testcase")
    assert ("clipper.development.be x_env", "live", "0.500") == tuple(
        map(case.get, ("classname", "name", "time"))
    )
    tag = "error" if unreachable else "failure"
    parts = {Result.FAIL: [tag], Result.SKIPPED: ["skipped"]}.get(result, [])
    assert parts == [part.tag for part in case]
