"""
Makes a test run say what it really tried.

- `--require NAME` (all suites, where CI=true): a test of that suite, or with that
  marker, that is skipped counts as failed. A fresh machine that lacks a server must
  not look like one on which the server was tested.
- A test with the marker `optional` may be skipped even so: it needs what only some
  machines have, such as another vendor's program, or a user who is not root.
- The summary lists which adapters ran against the real thing and which against a
  stand-in. A test says so by the fixture or the marker `postgres`, by
  `adapter("name")` for another real thing, by `adapter("name", real=False)` for a fake.
- It lists how many kills each kind of rotation survived, and how long each was without a
  working credential, where the test measured one.
- `--tally FILE` appends `passed failed skipped`, for whoever adds up several runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PROPERTY = "keyturn-adapter"
# `NAME NUMBER`: kills that were settled, seconds without a credential.
KILLS = "keyturn-kills"
OUTAGE = "keyturn-outage"
# Markers and fixtures that stand for one adapter, run against the real thing.
REAL = {"postgres": "postgres", "postgres_servers": "postgres"}


def pytest_addoption(parser):
    group = parser.getgroup("keyturn")
    group.addoption(
        "--require",
        action="append",
        default=[],
        metavar="NAME",
        help="a suite or marker whose tests must not be skipped; `all` for every one",
    )
    group.addoption("--tally", metavar="FILE", help="append `passed failed skipped` to FILE")


def pytest_configure(config):
    config.addinivalue_line("markers", "optional(why): may be skipped where CI=true")
    config.addinivalue_line(
        "markers", "adapter(name, real=True): runs against this adapter, or a stand-in for it"
    )


def required(config):
    """Return the names that `--require` and the environment demand."""
    names = set(config.getoption("--require"))
    if os.environ.get("CI") == "true":
        names.add("all")
    return names


def suite_of(path):
    """Return the suite that holds *path*, or `` outside of all."""
    inside = Path(path).parts[len(TESTS.parts) :]
    return inside[0] if inside and Path(path).is_relative_to(TESTS) else ""


def refuse_skip(report, names, *, config):
    """Turn a skip into a failure where one of *names* is required."""
    wanted = required(config)
    if not report.skipped or hasattr(report, "wasxfail") or not wanted & {"all", *names}:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"required, and yet skipped: {reason.removeprefix('Skipped: ')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    adapters = adapters_of(item)
    names = {suite_of(item.path), *(mark.name for mark in item.iter_markers())}
    names |= {name.split()[0] for name in adapters}
    if item.get_closest_marker("optional") is None:
        refuse_skip(report, names, config=item.config)
    if report.when == "call" and not report.skipped:
        # What pytest carries from the worker process to the one that reports.
        report.user_properties.extend((PROPERTY, name) for name in adapters)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    # A whole file is skipped while it is collected (`pytest.importorskip`).
    report = yield
    refuse_skip(report, {suite_of(collector.path)}, config=collector.config)
    return report


def adapters_of(item):
    """Return `name real` or `name fake` for each adapter that *item* runs against."""
    marks = list(item.iter_markers())
    words = {mark.name for mark in marks}.union(getattr(item, "fixturenames", ()))
    found = {f"{adapter} real" for word, adapter in REAL.items() if word in words}
    for mark in marks:
        if mark.name == "adapter":
            kind = "real" if mark.kwargs.get("real", True) else "fake"
            found.add(f"{mark.args[0]} {kind}")
    return sorted(found)


def counted(stats):
    """Return how many tests passed, failed (errors too) and were skipped."""
    passed = len(stats.get("passed", ())) + len(stats.get("xfailed", ()))
    failed = sum(len(stats.get(key, ())) for key in ("failed", "error", "xpassed"))
    return passed, failed, len(stats.get("skipped", ()))


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    stats = terminalreporter.stats
    ran = {}
    counts = {KILLS: {}, OUTAGE: {}}
    for reports in stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == PROPERTY:
                    ran[value] = ran.get(value, 0) + 1
                elif key in counts:
                    name, _, number = value.partition(" ")
                    counts[key][name] = float(number)
    for kind, words in (("real", "against the real thing"), ("fake", "against a stand-in")):
        names = sorted(value.split()[0] for value in ran if value.endswith(kind))
        if names:
            tests = ", ".join(f"{name} ({ran[f'{name} {kind}']})" for name in names)
            terminalreporter.write_line(f"{words} (tests): {tests}")
    if counts[KILLS]:
        total = sum(counts[KILLS].values())
        each = ", ".join(f"{name} {n:.0f}" for name, n in sorted(counts[KILLS].items()))
        terminalreporter.write_line(f"killed and settled, {total:.0f} times: {each}")
    if counts[OUTAGE]:
        each = ", ".join(f"{name} {n:.2f}" for name, n in sorted(counts[OUTAGE].items()))
        terminalreporter.write_line(f"seconds without a working credential: {each}")
    tally = config.getoption("--tally")
    # A worker process sums up too; the one that started it counts for all.
    if tally and not hasattr(config, "workerinput"):
        with open(tally, "a", encoding="utf-8") as file:
            file.write("{} {} {}\n".format(*counted(stats)))
