"""`render`, and rotations, over a file that Keyturn did not write."""

from __future__ import annotations

import pytest

TOKEN = b"test-token-Ll1Kk2Jj3Hh4Gg5Ff6Dd7"
MINE = "SESSION_SECRET=only-here\n"
HINT = (
    "\nhint: move it away, or give `render.path` another name in keyturn.toml; `keyturn render "
    "--consumer backend -e development --replace` writes over it\n"
)


@pytest.fixture
def foreign(project):
    """A file of the user's own where the consumer's goes."""
    path = project.folder / "run" / "backend.env"
    path.parent.mkdir()
    path.write_text(MINE)
    return path


def test_it_is_refused_and_said_so(foreign, quick):
    """`render` leaves it alone and names the ways out; `--check` and `test` tell whose it is."""
    result = quick("render")
    assert (1, b"") == (result.code, result.out)
    assert result.text.startswith(
        f"error: `{foreign}` is there already, and keyturn did not write it\n"
    )
    assert result.text.endswith(HINT)
    checked = quick("render", "--check", "--json")
    assert (1, "foreign") == (checked.code, checked.json()[0]["state"])
    assert "was not written by keyturn" in checked.json()[0]["differences"]
    assert "was not written by keyturn" in quick("test").out.decode()
    assert MINE == foreign.read_text()


def test_nothing_is_written_where_one_place_is_not_fit(foreign, quick, project):
    """Of several consumers none gets its file before all of them can."""
    text = project.manifest.read_text()
    render = '[consumers.another]\nsecrets = []\nrender = { path = "run/a", format = "json" }\n'
    project.manifest.write_text(text.replace("[consumers.backend]", f"{render}[consumers.backend]"))
    assert 1 == quick("render").code
    assert [foreign.name] == [path.name for path in foreign.parent.iterdir()]


def test_it_is_written_over_where_that_is_asked_for(foreign, quick):
    """`--replace` once; after that it is Keyturn's."""
    assert 0 == quick("render", "--consumer", "backend", "--replace").code
    assert MINE != foreign.read_text()
    assert 0 == quick("render").code
    assert 0 == quick("render", "--check").code


def test_a_check_replaces_nothing(foreign, quick):
    """The two flags contradict each other."""
    result = quick("render", "--check", "--replace")
    assert 2 == result.code
    assert "hint: give one" in result.text
    assert MINE == foreign.read_text()


def rotating(project):
    """Make `token` one of the secrets of the consumer with a file."""
    text = project.manifest.read_text()
    project.manifest.write_text(text.replace('["session", "api", "db"]', '["api", "token"]'))
    project.put("token", TOKEN)


def test_a_rotation_is_refused(foreign, quick, project):
    """Before it changes anything, and with the way out."""
    rotating(project)
    result = quick("rotate", "token", "--now")
    assert 1 == result.code
    assert "keyturn did not write it" in result.text
    assert result.text.endswith(HINT)
    assert TOKEN == quick("get", "token").out
    assert [1] == [row["version"] for row in quick("history", "token", "--json").json()]
    assert "no rotation is open" in quick("rotate", "--resume").text
    assert MINE == foreign.read_text()


TAKES_ITS_PLACE = """
[consumers.backend.reload]
command = ["sh", "-c", "test -e seen || { touch seen; echo mine > run/backend.env; exit 1; }"]
"""


def test_a_rotation_goes_back_past_it(quick, project):
    """Somebody's file that comes meanwhile is left as it is, and the rotation is not stuck."""
    rotating(project)
    with project.manifest.open("a") as file:
        file.write(TAKES_ITS_PLACE)
    result = quick("rotate", "token", "--now")
    assert 1 == result.code
    assert "was rolled back, the old version is in use" in result.text
    assert "backend: file left, keyturn did not write it" in result.text
    assert TOKEN == quick("get", "token").out
    assert "mine\n" == (project.folder / "run" / "backend.env").read_text()


def test_a_rotation_writes_over_its_own_file(quick, project):
    """What an earlier rotation or `render` wrote is brought to the new version."""
    rotating(project)
    assert 0 == quick("render").code
    for _ in range(2):
        assert 0 == quick("rotate", "token", "--now").code
        assert 0 == quick("render", "--check").code
    assert quick("get", "token").out in (project.folder / "run" / "backend.env").read_bytes()
