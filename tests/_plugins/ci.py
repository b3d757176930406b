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
- It lists the stores that the suites of stores ran on, the real ones with the server and
  its version. A suite says so by `store("name")`, or `store("name", real=False)`, or its
  fixture adds the property `STORE`.
- It lists how many kills each kind of rotation survived, and how long each was without a
  working credential, where the test measured one.
- `--tally FILE` appends `passed failed skipped`, for whoever adds up several runs.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PROPERTY = "keyturn-adapter"
# `NAME real` or `NAME simulated`.
STORE = "keyturn-store"
# `NAME NUMBER`: kills that were settled, seconds without a credential.
KILLS = "keyturn-kills"
OUTAGE = "keyturn-outage"
# Markers and fixtures that stand for one adapter, run against the real thing.
REAL = {"postgres": "postgres", "postgres_servers": "postgres"}
# What stands behind a store: its name, and the program or the package that tells its version.
BEHIND = {
    "vault": ("OpenBao", "bao"),
    "swarm": ("dockerd", "dockerd"),
    "aws": ("moto", "moto"),
    "kubernetes": ("an API server of ours", ""),
}


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
    config.addinivalue_line(
        "markers", "store(name, real=True): a suite of stores on this one, or on a simulated one"
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
        report.user_properties.extend((STORE, name) for name in stores_of(item))
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


def stores_of(item):
    """Return `name real` or `name simulated` for each store that *item* is marked with."""
    return sorted(
        f"{mark.args[0]} {'real' if mark.kwargs.get('real', True) else 'simulated'}"
        for mark in item.iter_markers("store")
    )


def named_store(name):
    """Return *name* with the server behind it and that server's version."""
    server, source = BEHIND.get(name, ("", ""))
    version = version_of(source) if source else ""
    behind = " ".join(part for part in (server, version) if part)
    return f"{name} ({behind})" if behind else name


def version_of(source):
    """Return the version of a program, or of a package; nothing where neither is here."""
    # A wheel's programs lie beside the interpreter, which need not be on the search path.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"]
    program = shutil.which(source, path=os.pathsep.join(places))
    if program is not None:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
        found = re.search(r"\d+(\.\d+)+", told.stdout)
        return found[0] if found else ""
    try:
        return importlib.metadata.version(source)
    except importlib.metadata.PackageNotFoundError:
        return ""


def store_line(reports):
    """Return which stores *reports* passed on; nothing where they were about no store."""
    ran = {
        value
        for report in reports
        if report.when == "call" and report.passed
        for key, value in report.user_properties
        if key == STORE
    }
    parts = []
    for kind in ("real", "simulated"):
        names = sorted(value.split()[0] for value in ran if value.endswith(kind))
        if names:
            parts.append(f"{kind}: {', '.join(map(named_store, names))}")
    return f"stores: {'; '.join(parts)}" if parts else ""


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
    stores = store_line(stats.get("passed", ()))
    if stores:
        terminalreporter.write_line(stores)
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
