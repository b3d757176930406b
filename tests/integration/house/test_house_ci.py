"""The plugin that keeps a run honest: skips, adapters, the tally."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests._plugins import source

CASES = {
    "test_skips.py": """
        import pytest
        def test_passes(): pass
        @pytest.mark.skip(reason="no server here")
        def test_skips(): pass
    """,
    "test_lacks.py": """
        import pytest
        pytest.importorskip("no_such_module_at_all")
    """,
    "test_adapters.py": """
        import pytest
        @pytest.mark.adapter("vault", real=False)
        def test_fake(): pass
        @pytest.mark.adapter("embedded")
        def test_real(): pass
        @pytest.fixture
        def postgres_servers(): pass
        def test_by_fixture(postgres_servers): pass
        @pytest.mark.adapter("unseen")
        @pytest.mark.skip
        def test_skipped(): pass
    """,
    "test_stores.py": """
        import pytest
        from tests._plugins.ci import STORE
        @pytest.mark.store("memory")
        def test_real(): pass
        @pytest.mark.store("kubernetes", real=False)
        @pytest.mark.parametrize("number", range(3))
        def test_simulated(number): pass
        @pytest.fixture
        def world(request):
            request.node.user_properties.append((STORE, "vault real"))
        def test_by_fixture(world): pass
        @pytest.mark.store("swarm")
        def test_fails(): raise ValueError
        @pytest.mark.store("sops")
        @pytest.mark.skip
        def test_skipped(): pass
    """,
    "test_fails.py": """
        import pytest
        def test_fails(): raise ValueError
        @pytest.fixture
        def broken(): raise ValueError
        def test_errs(broken): pass
        @pytest.mark.xfail
        def test_expected(): raise ValueError
    """,
}


@pytest.fixture
def run(tmp_path):
    def run_case(name, *arguments, ci=False, workers=0):
        lines = CASES[name].splitlines()
        (tmp_path / name).write_text("\n".join(line.removeprefix(" " * 8) for line in lines))
        environ = {k: v for k, v in os.environ.items() if k != "CI" and "PYTEST" not in k}
        environ |= {"PYTHONPATH": str(source.ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        spread = ["-p", "xdist", f"-n{workers}"] if workers else []
        command = [sys.executable, "-m", "pytest", "-p", "tests._plugins.ci", *spread]
        return subprocess.run(
            [*command, "-p", "no:cacheprovider", "--tally", "tally", *arguments, name],
            cwd=tmp_path,
            env=environ | ({"CI": "true"} if ci else {}),
            capture_output=True,
            text=True,
            check=False,
        )

    return run_case


def test_a_skip_passes_where_nothing_is_required(run, tmp_path):
    """On a machine that lacks a server, the other tests can still be run."""
    assert run("test_skips.py").returncode == 0
    assert (tmp_path / "tally").read_text() == "1 0 1\n"


@pytest.mark.parametrize("case", ["test_skips.py", "test_lacks.py"])
def test_a_skip_fails_where_all_is_required(run, case):
    """With CI=true a skipped test, or a whole skipped file, fails, and says what it lacked."""
    result = run(case, ci=True)
    assert result.returncode in {1, 2}
    assert "required, and yet skipped" in result.stdout
    assert "no server here" in result.stdout or "no_such_module_at_all" in result.stdout


def test_a_skip_fails_in_a_worker_too(run, tmp_path):
    """What holds in one process holds when the run is spread over several."""
    assert run("test_skips.py", "--require", "all", workers=2).returncode == 1
    assert (tmp_path / "tally").read_text() == "1 1 0\n"


def test_only_what_is_required_must_run(run):
    """A name that is not the test's suite or marker requires nothing of it."""
    assert run("test_skips.py", "--require", "postgres").returncode == 0
    assert run("test_skips.py", "--require", "skip").returncode == 1


def test_the_summary_tells_real_from_stand_in(run):
    """Whoever reads the end of a run sees what was really tried; a skipped test was not."""
    output = run("test_adapters.py", workers=2).stdout
    assert "against the real thing (tests): embedded (1), postgres (1)" in output
    assert "against a stand-in (tests): vault (1)" in output
    assert "unseen" not in output


def test_the_summary_names_the_stores_that_ran(run):
    """With the server behind each and its version; not those that failed or were skipped."""
    output = run("test_stores.py", workers=2).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("stores: ")]
    pattern = (
        r"stores: real: memory, vault \(OpenBao \d+\.\d+\.\d+\);"
        r" simulated: kubernetes \(an API server of ours\)"
    )
    assert re.fullmatch(pattern, line)
    assert "stores: " not in run("test_adapters.py").stdout


def test_the_tally_counts_errors_as_failures(run, tmp_path):
    """A test that could not be set up did not pass; one that fails as expected did."""
    assert run("test_fails.py").returncode == 1
    assert (tmp_path / "tally").read_text() == "1 2 0\n"
