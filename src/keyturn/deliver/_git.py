"""No value into a git work tree that would commit it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from keyturn.errors import DeliveryError

__all__ = ["require_ignored"]

_TIMEOUT_SECONDS = 10.0
_IGNORED = 0
_NOT_IGNORED = 1
# The repository may be anybody's: nothing that its configuration names is run, and
# a repository owned by another user is still asked.
_OPTIONS = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "safe.directory=*",
)


def require_ignored(path: Path, project: Path, *, is_set: bool) -> tuple[str, ...]:
    """
    Let through a *path* outside every git work tree, or ignored by the one it is in.

    The temporary that a crash may leave beside it must be ignored as well.

    Returns:
        Notes on what could not be looked at.

    Raises:
        DeliveryError: git would commit it, or cannot tell.
    """
    tree = _work_tree(path.parent)
    if tree is None:
        return ()
    # A rule such as `secrets/` matches a folder only, and git sees one by what is in it.
    candidates = [path / "NAME"] if is_set else [path, path.parent / f".{path.name}.keyturn-1"]
    try:
        bare = [name for name in candidates if not _is_ignored(name, tree)]
    except FileNotFoundError:
        return (f"git is not installed, so whether it ignores `{path}` was not looked at",)
    except (OSError, subprocess.SubprocessError) as error:
        raise _undecided(path) from error
    if bare:
        raise DeliveryError(
            f"`{_shown(path, project)}` is in a git work tree and not ignored",
            hint=f"add {_rules(path, tree, is_set=is_set)} to `.gitignore`,"
            " or deliver outside the work tree",
            code="delivery.tracked",
        )
    return ()


def _work_tree(folder: Path) -> Path | None:
    # In a worktree or submodule `.git` is a file.
    for candidate in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            if (candidate / ".git").exists():
                return candidate
    return None


def _is_ignored(path: Path, tree: Path) -> bool:
    # A hook's GIT_DIR would make git answer for another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        # `./`, because git gives a leading `:` a meaning of its own.
        ["git", *_OPTIONS, "check-ignore", "-q", "--", f"./{path.relative_to(tree)}"],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode not in {_IGNORED, _NOT_IGNORED}:
        raise _undecided(path)
    return done.returncode == _IGNORED


def _rules(path: Path, tree: Path, *, is_set: bool) -> str:
    relative = path.relative_to(tree)
    if is_set:
        return f"`/{relative}/`"
    if relative.parent != Path():
        return f"`/{relative.parent}/`"
    return f"`/{relative}` and `/.{relative.name}.keyturn-*`"


def _shown(path: Path, project: Path) -> Path:
    root = project.resolve()
    return path.relative_to(root) if path.is_relative_to(root) else path


def _undecided(path: Path) -> DeliveryError:
    return DeliveryError(
        f"git cannot tell whether it ignores `{path}`",
        hint="see what `git check-ignore -v PATH` says there, or deliver outside the work tree",
        code="delivery.tracked",
    )
