"""
The retrieval test as JUnit XML, which every CI system reads.

Written so that both descriptions of the format in wide use hold: the one of Ant, which
wants every attribute of a suite and its four parts in order, and the one of Jenkins.
A check that failed because nobody answered is an `error`, any other is a `failure`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from keyturn.app.checks import Check, Result

__all__ = ["junit_xml"]


def junit_xml(
    project: str, environment: str, checks: Sequence[Check], *, at: datetime, consumer: str | None
) -> str:
    """Return *checks* of one environment as a JUnit document."""
    root = ET.Element("testsuites")
    failed = [check for check in checks if check.result is Result.FAIL]
    errors = sum(check.unreachable for check in failed)
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "id": "0",
            "package": f"keyturn.{project}",
            "name": environment,
            "hostname": socket.gethostname() or "localhost",
            "timestamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "tests": str(len(checks)),
            "failures": str(len(failed) - errors),
            "errors": str(errors),
            "skipped": str(sum(check.result is Result.SKIPPED for check in checks)),
            "time": f"{sum(check.seconds for check in checks):.3f}",
        },
    )
    properties = ET.SubElement(suite, "properties")
    if consumer is not None:
        ET.SubElement(properties, "property", {"name": "consumer", "value": consumer})
    for check in checks:
        _case(suite, f"{project}.{environment}", check)
    warnings = [
        f"warning: {check.subject} {check.check}: {check.detail}"
        for check in checks
        if check.result is Result.WARN
    ]
    ET.SubElement(suite, "system-out").text = _clean("\n".join(warnings))
    ET.SubElement(suite, "system-err").text = ""
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ET.Element, package: str, check: Check) -> None:
    # A class is told from its package by the last dot: a file's name has dots of its own.
    subject = _clean(check.subject).replace(".", "_")
    case = ET.SubElement(
        suite,
        "testcase",
        {"classname": f"{package}.{subject}", "name": check.check, "time": f"{check.seconds:.3f}"},
    )
    detail = _clean(check.detail)
    if check.result is Result.SKIPPED:
        ET.SubElement(case, "skipped", {"message": detail})
    elif check.result is Result.FAIL:
        tag, kind = ("error", "unreachable") if check.unreachable else ("failure", check.check)
        ET.SubElement(case, tag, {"type": kind, "message": detail}).text = detail


def _clean(text: str) -> str:
    """Return *text* without what XML 1.0 cannot carry, however it is escaped."""
    return "".join(c if c in "\t\n" or c.isprintable() else "?" for c in text)
