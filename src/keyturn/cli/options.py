"""Options that several verbs share, and the session that they open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from keyturn.app.config import Settings
from keyturn.app.session import Session, open_session
from keyturn.cli.output import Output
from keyturn.cli.prompt import ask_value, confirm
from keyturn.core.ids import EnvironmentName
from keyturn.core.value import SecretValue

__all__ = [
    "ask_passphrase",
    "confirm_change",
    "consumer_option",
    "environment_option",
    "json_option",
    "names_argument",
    "opened",
    "pick_environment",
    "project_option",
    "reason_option",
    "secret_completion",
    "talk_options",
    "yes_option",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def project_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--project-dir`."""
    return click.option(
        "--project-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="The folder with keyturn.toml; by default found upwards from here.",
    )(function)


def environment_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-e/--environment` and `--project-dir`."""
    option = click.option(
        "-e",
        "--environment",
        "environment",
        shell_complete=environment_completion,
        help="Default: $KEYTURN_ENVIRONMENT, or `development`.",
    )
    return option(project_option(function))


def reason_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--reason`."""
    return click.option(
        "--reason", help="Why, for the audit log; needed to change a protected environment."
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write one JSON document.")(
        function
    )


def yes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--yes`."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)


def talk_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-q` and `-v`."""
    quiet = click.option("-q", "--quiet", count=True, help="Say less; -qq says errors only.")
    verbose = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, help="Show where an error arose."
    )
    return quiet(verbose(function))


def names_argument(*, required: bool = False, many: bool = False) -> Decorator:
    """Add an argument that is a secret's name, completed from the manifest."""
    return click.argument(
        "names" if many else "name",
        nargs=-1 if many else 1,
        required=required or not many,
        shell_complete=secret_completion,
    )


@contextlib.contextmanager
def opened(
    *,
    project_dir: Path | None,
    reason: str | None = None,
    output: Output | None = None,
    accept_rollback: bool = False,
) -> Iterator[Session]:
    """Open the project's session, and close it afterwards."""
    settings = Settings.read()
    session = open_session(
        settings,
        project_dir=project_dir,
        reason=reason,
        ask_passphrase=ask_passphrase,
        ask=_ask_for_login,
        accept_rollback=accept_rollback,
    )
    output = output or Output()
    with contextlib.closing(session):
        for problem in session.manifest.warnings:
            output.warn(str(problem))
        told = len(session.notes)
        for note in session.notes:
            output.warn(note)
        try:
            yield session
        finally:
            for note in dict.fromkeys(session.notes[told:]):
                output.warn(note)


def pick_environment(session: Session, given: str | None) -> EnvironmentName:
    """Return the environment that *given* names, or the default one."""
    return session.manifest.environment(given or Settings.read().environment).name


def confirm_change(
    session: Session, environment: EnvironmentName, question: str, *, yes: bool
) -> None:
    """
    Ask *question* where *environment* is protected; call it before asking for anything else.

    Raises:
        AccessDenied: No reason was given, or the answer was no.
        UsageError: There is no terminal to ask on, and no `--yes`.
    """
    session.access.require_reason(environment)
    if session.manifest.environments[environment].protected:
        confirm(question, yes=yes)


def ask_passphrase() -> SecretValue:
    return ask_value(
        "the passphrase of the store",
        twice=False,
        instead="run it in a terminal once and `keyturn rotate root-key` there: "
        "with a key file nothing is asked",
    )


def _ask_for_login(label: str) -> SecretValue:
    return ask_value(
        label,
        twice=False,
        instead="log in to the store in a way that asks nobody: see `auth` in its table in"
        " keyturn.toml",
    )


def _manifest_for_completion(context: click.Context) -> Any:
    # Completion reads the manifest alone: no store is opened and no value is touched.
    from keyturn.app.project import find_project
    from keyturn.manifest import load

    paths = find_project(context.params.get("project_dir"), Settings.read().key_home)
    return load(paths.manifest.read_bytes(), file=str(paths.manifest))


def consumer_option(text: str) -> Decorator:
    """Add `--consumer`, explained by *text*."""
    return click.option("--consumer", shell_complete=consumer_completion, help=text)


def environment_completion(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    del parameter
    with contextlib.suppress(Exception):  # a completion that fails stays silent
        names = _manifest_for_completion(context).environments
        return [name for name in names if name.startswith(incomplete)]
    return []


def consumer_completion(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    del parameter
    with contextlib.suppress(Exception):  # a completion that fails stays silent
        names = _manifest_for_completion(context).consumers
        return [name for name in names if name.startswith(incomplete)]
    return []


def secret_completion(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    del parameter
    with contextlib.suppress(Exception):  # a completion that fails stays silent
        manifest = _manifest_for_completion(context)
        names = [str(name) for name in manifest.secrets]
        names += [
            f"{secret.name}.{field}"
            for secret in manifest.secrets.values()
            if len(secret.fields) > 1
            for field in secret.fields
        ]
        return [name for name in names if name.startswith(incomplete)]
    return []
