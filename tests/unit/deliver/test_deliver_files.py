"""Delivered files: only in a fit place, old or new and never mixed, with the mode asked for."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from keyturn._internal import failpoints
from keyturn.core.value import SecretValue
from keyturn.deliver import (
    Format,
    RenderTarget,
    differences,
    expected_files,
    is_foreign,
    render,
    require_place,
    write_rendered,
)
from keyturn.errors import Conflict, DeliveryError

CANARY = "canary-in-a-file"
ROOT = os.geteuid() == 0
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


@pytest.fixture(autouse=True)
def disarm():
    """Leave no failpoint armed."""
    yield
    failpoints.disarm()


def one(value=CANARY):
    return render(Format.DOTENV, {"TOKEN": SecretValue.from_text(value)}, {"token": 1})


def several(**values):
    named = {name: SecretValue.from_text(value) for name, value in values.items()}
    return render(Format.FILES, named, {"token": len(values)})


def target(path, form=Format.DOTENV, **options):
    return RenderTarget(str(path), form, **options)


def git(folder, *words):
    subprocess.run(["git", *words], cwd=folder, env={**os.environ, **GIT}, check=True)


def visible(folder):
    return {
        entry.name: entry.read_text()
        for entry in folder.iterdir()
        if not entry.name.startswith("..")
    }


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../x", "run/../../x", "/", "/..", "run/..", "a\0b", "a\nb", "run/\x1b[2J"],
)
def test_a_path_that_is_none_is_refused(tmp_path, path):
    """No `..`, no control character, and a name at the end."""
    with pytest.raises(DeliveryError, match="no path for") as caught:
        write_rendered(tmp_path, target(path), one())
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("path", ["keyturn.toml", ".keyturn/x", ".git/config", ".keyturn"])
def test_the_projects_own_places_are_refused(tmp_path, path):
    """A delivered file never lands on the manifest, the store or the repository."""
    for form in (path, tmp_path / path):
        with pytest.raises(DeliveryError, match="not a place"):
            write_rendered(tmp_path, target(form), one())
    assert [] == list(tmp_path.iterdir())


def test_a_link_out_of_the_project_is_refused(tmp_path):
    """A relative path stays inside the project, whatever stands on the way."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (project / "run").symlink_to(outside)
    with pytest.raises(DeliveryError, match="leads out"):
        write_rendered(project, target("run/x.env"), one())
    assert [] == list(outside.iterdir())


@pytest.mark.parametrize("form", [Format.DOTENV, Format.FILES])
def test_a_link_as_the_target_is_refused(tmp_path, form):
    """What a link points to is not written, and the link is not replaced."""
    (tmp_path / "x").symlink_to("/dev/null")
    with pytest.raises(DeliveryError, match="symbolic link"):
        write_rendered(tmp_path, target("x", form), one())
    assert (tmp_path / "x").is_symlink()


def test_something_else_in_the_place_is_refused(tmp_path):
    """A folder is not replaced by a file, nor a pipe, nor a file by a folder."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "pipe"):
        with pytest.raises(DeliveryError, match="no regular file"):
            write_rendered(tmp_path, target(name), one())
    with pytest.raises(DeliveryError, match="no folder"):
        write_rendered(tmp_path, target("file", Format.FILES), several(A="1"))
    assert "mine" == (tmp_path / "file").read_text()


def test_a_folder_with_other_files_is_refused(tmp_path):
    """What Keyturn did not write is not removed or hidden."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").write_text("mine")
    (tmp_path / "run" / "link").symlink_to("notes")
    with pytest.raises(DeliveryError, match="did not write"):
        write_rendered(tmp_path, target("run", Format.FILES), several(A="1"))
    assert {"notes", "link"} == {entry.name for entry in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("owner", ["no-such-user-x", ":no-such-group-x", "0:no-such-group-x"])
def test_an_unknown_owner_is_refused(tmp_path, owner):
    """A name that the machine does not know is an error before anything is written."""
    with pytest.raises(DeliveryError, match="not known"):
        write_rendered(tmp_path, target("x.env", owner=owner), one())
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["full", "error"])
@pytest.mark.parametrize("point", ["deliver.write", "deliver.rename"])
def test_a_failed_write_leaves_the_old_file(tmp_path, point, kind):
    """A full disk changes nothing, leaves nothing beside, and says what to look at."""
    write_rendered(tmp_path, target("x.env"), one("old"))
    failpoints.arm(f"{point}:{kind}")
    with pytest.raises(DeliveryError, match="cannot be written") as caught:
        write_rendered(tmp_path, target("x.env"), one())
    assert caught.value.hint
    assert CANARY not in str(caught.value)
    assert ["x.env"] == [entry.name for entry in tmp_path.iterdir()]
    assert [] == differences(tmp_path, target("x.env"), one("old"))


@pytest.mark.parametrize(
    "point", ["deliver.write", "deliver.rename", "deliver.swap", "deliver.swapped"]
)
def test_a_failed_set_is_old_or_new_and_the_next_repairs_it(tmp_path, point):
    """Whatever write fails, a reader finds one set, and the next write leaves nothing over."""
    place = target("run", Format.FILES)
    write_rendered(tmp_path, place, several(A="old", B="old"))
    failpoints.arm(f"{point}:error")
    with pytest.raises(DeliveryError, match="cannot be written"):
        write_rendered(tmp_path, place, several(A="new", B="new"))
    found = visible(tmp_path / "run")
    assert 1 == len({found["A"], found["B"]})
    write_rendered(tmp_path, place, several(A="new", B="new"))
    assert [] == differences(tmp_path, place, several(A="new", B="new"))
    assert 5 == len(list((tmp_path / "run").iterdir()))


def test_two_writers_of_one_set_do_not_mix(tmp_path):
    """The second is told, while the first holds the folder."""
    import fcntl

    place = target("run", Format.FILES)
    write_rendered(tmp_path, place, several(A="1"))
    descriptor = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Conflict, match="another process"):
        write_rendered(tmp_path, place, several(A="2"))
    os.close(descriptor)
    write_rendered(tmp_path, place, several(A="2"))
    assert "2" == (tmp_path / "run" / "A").read_text()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o444])
def test_a_file_has_its_mode_and_folders_are_made(tmp_path, mode):
    """The mode is exact whatever the umask, and missing folders are created."""
    old = os.umask(0o077)
    try:
        written = write_rendered(tmp_path, target("run/deep/x.env", mode=mode), one())
    finally:
        os.umask(old)
    assert tmp_path.resolve() / "run/deep/x.env" == written.path
    assert mode == written.path.stat().st_mode & 0o7777
    assert () == written.notes
    assert one().reveal() == written.path.read_bytes()


def test_the_mode_stands_before_the_first_byte(tmp_path, monkeypatch):
    """At the moment before the value is written, nobody else can open the file."""
    seen = []

    def look(name):
        if name == "deliver.write":
            seen.extend((f.stat().st_size, f.stat().st_mode & 0o777) for f in tmp_path.iterdir())

    monkeypatch.setattr(failpoints, "hit", look)
    write_rendered(tmp_path, target("x.env", mode=0o640), one())
    assert [(0, 0o640)] == seen


def test_an_absolute_path_may_be_anywhere(tmp_path):
    """Declared as absolute, a place outside the project is meant."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    write_rendered(project, target(outside / "x.env"), one())
    assert [] == differences(project, target(outside / "x.env"), one())


def test_the_owner_is_set_by_name_or_number(tmp_path):
    """Files and folders of a set go to the owner together."""
    user = "nobody" if ROOT else pwd.getpwuid(os.getuid()).pw_name
    uid, gid = pwd.getpwnam(user).pw_uid, 12345 if ROOT else os.getgid()
    place = target("run", Format.FILES, owner=f"{user}:{gid}", mode=0o640)
    write_rendered(tmp_path, place, several(A="1"))
    for entry in (tmp_path / "run", tmp_path / "run" / "..data", tmp_path / "run" / "A"):
        assert (uid, gid) == (entry.stat().st_uid, entry.stat().st_gid)
    assert 0o750 == (tmp_path / "run").stat().st_mode & 0o777
    assert [] == differences(tmp_path, place, several(A="1"))
    other = target("run", Format.FILES, owner="54321:54322", mode=0o640)
    words = differences(tmp_path, other, several(A="1"))
    assert f"`A` owner is uid {uid} instead of 54321" in words
    assert f"`A` group is gid {gid} instead of 54322" in words


def test_giving_away_without_the_right_says_what_is_needed():
    """Not being root is the reason that is named."""
    # Not below pytest's own folder, which only root may pass.
    with tempfile.TemporaryDirectory() as name:
        if ROOT:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            with pytest.raises(DeliveryError, match="cannot be written") as caught:
                write_rendered(Path(name), target("x.env", owner="0"), one())
        finally:
            if ROOT:
                os.seteuid(0)
        assert "needs root" in caught.value.hint
        assert [] == os.listdir(name)


def test_a_set_follows_the_variables(tmp_path):
    """New names appear, old ones go, and the versions are told in a file of their own."""
    place = target("run", Format.FILES)
    write_rendered(tmp_path, place, several(A="1", B="2"))
    assert {"A": "1", "B": "2", "KEYTURN_VERSIONS": "token=2"} == visible(tmp_path / "run")
    written = write_rendered(tmp_path, place, several(B="3", C="\n4", D=""))
    assert {"B": "3", "C": "\n4", "D": "", "KEYTURN_VERSIONS": "token=3"} == visible(written.path)
    inside = (written.path / "..data").resolve()
    assert {"B", "C", "D", "KEYTURN_VERSIONS"} == {entry.name for entry in inside.iterdir()}
    assert 0o700 == inside.stat().st_mode & 0o777
    assert 0o600 == (inside / "B").stat().st_mode & 0o777


def test_a_reader_never_sees_two_sets(tmp_path):
    """While sets are swapped, a reader that resolves the link once finds all of one set."""
    place, seen, stop = target("run", Format.FILES), set(), threading.Event()
    write_rendered(tmp_path, place, several(A="0", B="0"))

    def read():
        while not stop.is_set():
            folder = Path(os.path.realpath(tmp_path / "run" / "..data"))
            try:
                seen.add(((folder / "A").read_text(), (folder / "B").read_text()))
            except FileNotFoundError:
                continue

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 15):
        write_rendered(tmp_path, place, several(A=str(number), B=str(number)))
    stop.set()
    reader.join()
    assert {(a, a) for a, _ in seen} == seen


def test_differences_are_told_without_the_value(tmp_path):
    """Each kind of drift has its words; the contents are never among them."""
    place, wanted = target("x.env"), one()
    assert ["is absent"] == differences(tmp_path, place, wanted)
    write_rendered(tmp_path, place, wanted)
    assert [] == differences(tmp_path, place, wanted)
    file = tmp_path / "x.env"
    file.chmod(0o644)
    assert ["mode is 0644 instead of 0600"] == differences(tmp_path, place, wanted)
    file.write_bytes(wanted.reveal() + b"x")
    assert "content differs" == differences(tmp_path, place, wanted)[0]
    file.write_bytes(wanted.reveal()[:-1])
    assert "content differs" == differences(tmp_path, place, wanted)[0]
    file.unlink()
    file.symlink_to("/dev/null")
    assert ["is a symbolic link"] == differences(tmp_path, place, wanted)
    file.unlink()
    os.mkfifo(file)
    assert ["is not a regular file"] == differences(tmp_path, place, wanted)


def test_differences_of_a_set_name_the_variable(tmp_path):
    """What is missing, changed, unlinked or foreign is each named."""
    place, wanted = target("run", Format.FILES), several(A="1", B="2")
    assert "`A` is absent" in differences(tmp_path, place, wanted)
    write_rendered(tmp_path, place, wanted)
    assert [] == differences(tmp_path, place, wanted)
    (tmp_path / "run" / "A").write_text("drift")
    (tmp_path / "run" / "B").unlink()
    (tmp_path / "run" / "odd\n").touch()
    assert [
        "`A` content differs",
        "`B` is not linked to the current set",
        "'odd\\n' does not belong there",
    ] == differences(tmp_path, place, wanted)
    paths = [file.path.name for file in expected_files(tmp_path, place, wanted)]
    assert ["A", "B", "KEYTURN_VERSIONS"] == paths


def test_a_tracked_place_is_refused(tmp_path):
    """In a git work tree a file that git would commit is not written; the hint is the rule."""
    git(tmp_path, "init", "-q")
    with pytest.raises(DeliveryError, match="not ignored") as caught:
        write_rendered(tmp_path, target("x.env"), one())
    assert "`/x.env` and `/.x.env.keyturn-*`" in caught.value.hint
    assert [".git"] == [entry.name for entry in tmp_path.iterdir()]
    (tmp_path / ".gitignore").write_text("/x.env\n")
    with pytest.raises(DeliveryError, match="not ignored"):
        write_rendered(tmp_path, target("x.env"), one())
    (tmp_path / ".gitignore").write_text("/x.env\n/.x.env.keyturn-*\n")
    write_rendered(tmp_path, target("x.env"), one())
    (tmp_path / ".gitignore").write_text("/x.env\n/.x.env.keyturn-*\n!/x.env\n")
    with pytest.raises(DeliveryError, match="not ignored"):
        write_rendered(tmp_path, target("x.env"), one())


def test_an_ignored_folder_is_enough(tmp_path):
    """The rule that the hint gives for a folder suffices for files and for sets."""
    git(tmp_path, "init", "-q")
    for place, rendering in (
        (target("run/x.env"), one()),
        (target("secrets/now", Format.FILES), several(A="1")),
    ):
        with pytest.raises(DeliveryError, match="not ignored") as caught:
            write_rendered(tmp_path, place, rendering)
        rule = caught.value.hint.split("`")[1]
        with (tmp_path / ".gitignore").open("a") as file:
            file.write(rule + "\n")
        write_rendered(tmp_path, place, rendering)


def test_a_tracked_file_is_refused_though_a_rule_names_it(tmp_path):
    """An ignore rule does not help a file that is in the index already."""
    git(tmp_path, "init", "-q")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.env").touch()
    git(tmp_path, "add", ".")
    (tmp_path / ".gitignore").write_text("/run/\n")
    with pytest.raises(DeliveryError, match="not ignored"):
        write_rendered(tmp_path, target("run/x.env"), one())


def test_another_repository_in_the_environment_does_not_mislead(tmp_path, monkeypatch):
    """Inside a git hook, `GIT_DIR` names another repository; the place decides."""
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here, other):
        folder.mkdir()
        git(folder, "init", "-q")
    (other / ".gitignore").write_text("*\n")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    with pytest.raises(DeliveryError, match="not ignored"):
        write_rendered(here, target("x.env"), one())


def test_a_hostile_repository_runs_nothing(tmp_path):
    """Programs that its configuration names are not started."""
    git(tmp_path, "init", "-q")
    mark = tmp_path / "ran"
    (tmp_path / "evil").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (tmp_path / "evil").chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.editor"):
        git(tmp_path, "config", name, str(tmp_path / "evil"))
    (tmp_path / ".gitignore").write_text("/run/\n")
    write_rendered(tmp_path, target("run/x.env"), one())
    assert not mark.exists()


def test_a_broken_repository_is_not_taken_for_none(tmp_path):
    """Where git cannot tell, nothing is written."""
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(DeliveryError, match="cannot tell"):
        write_rendered(tmp_path, target("x.env"), one())


def test_a_repository_of_another_user_is_still_asked(tmp_path):
    """root delivering into a deploy user's checkout gets an answer, not a refusal."""
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("/run/\n")
    if ROOT:
        for folder in (tmp_path, tmp_path / ".git"):
            os.chown(folder, 12345, 12345)
    write_rendered(tmp_path, target("run/x.env"), one())
    with pytest.raises(DeliveryError, match="not ignored"):
        write_rendered(tmp_path, target("x.env"), one())


def test_without_git_it_is_noted(tmp_path, monkeypatch):
    """Nobody can commit without git; that it was not looked at is said."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    written = write_rendered(tmp_path, target("x.env"), one())
    assert "git is not installed" in written.notes[0]


OTHERS = "DB_PASSWORD=mine\nKEYTURN=1\n# KEYTURN_VERSIONS=\n"


@pytest.mark.parametrize("form", [Format.DOTENV, Format.SHELL, Format.JSON])
def test_somebody_else_s_file_is_left_alone(tmp_path, form):
    """A file of the user's own, which may be the only copy of something, is not replaced."""
    path = tmp_path / "x.env"
    path.write_text(OTHERS)
    wanted = render(form, {"TOKEN": SecretValue.from_text(CANARY)}, {"token": 1})
    place = target("x.env", form)
    for act in (
        lambda: require_place(tmp_path, place),
        lambda: write_rendered(tmp_path, place, wanted),
    ):
        with pytest.raises(DeliveryError, match="did not write it") as caught:
            act()
        assert "delivery.foreign" == caught.value.code
        assert "--replace" in caught.value.hint
    assert OTHERS == path.read_text()
    assert is_foreign(tmp_path, place)
    assert "was not written by keyturn" == differences(tmp_path, place, wanted)[0]
    write_rendered(tmp_path, place, wanted, replace=True)
    assert [] == differences(tmp_path, place, wanted)
    assert not is_foreign(tmp_path, place)


@pytest.mark.parametrize("before", [Format.DOTENV, Format.SHELL, Format.JSON])
@pytest.mark.parametrize("after", [Format.DOTENV, Format.SHELL, Format.JSON])
@pytest.mark.parametrize("versions", [{}, {"token": 1}, {"db": 2, "token": 1}])
def test_our_own_file_is_replaced_in_any_format(tmp_path, before, after, versions):
    """What Keyturn wrote, it may write over, with other values and in another format."""
    values = {"A": SecretValue(b"1"), "TOKEN": SecretValue(b"two\nlines 'q' $x")}
    write_rendered(tmp_path, target("x", before), render(before, values, versions))
    wanted = render(after, {"TOKEN": SecretValue(b"2")}, versions)
    assert not is_foreign(tmp_path, target("x", after))
    write_rendered(tmp_path, target("x", after), wanted)
    assert [] == differences(tmp_path, target("x", after), wanted)


def test_an_empty_file_is_nobody_s(tmp_path):
    """Made beforehand for its owner and mode, it has nothing that could be lost."""
    (tmp_path / "x.env").touch()
    write_rendered(tmp_path, target("x.env"), one())
    assert CANARY in (tmp_path / "x.env").read_text()


@pytest.mark.optional("CI runs as root")
@pytest.mark.skipif(ROOT, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_left_alone(tmp_path):
    """Nobody knows whose it is."""
    (tmp_path / "x.env").write_text("mine")
    (tmp_path / "x.env").chmod(0)
    with pytest.raises(DeliveryError, match="nobody knows whose it is"):
        write_rendered(tmp_path, target("x.env"), one())


def test_a_folder_with_something_else_in_it_is_somebody_else_s(tmp_path):
    """As is said of it by `is_foreign`; our own folder and an absent one are not."""
    place = target("run", Format.FILES)
    assert not is_foreign(tmp_path, place)
    write_rendered(tmp_path, place, several(A="1"))
    assert not is_foreign(tmp_path, place)
    (tmp_path / "run" / "notes").touch()
    assert is_foreign(tmp_path, place)
