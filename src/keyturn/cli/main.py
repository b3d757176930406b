"""The full command line: everything that `keyturn.fast` does not do itself."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from keyturn.cli.commands import VERBS
from keyturn.cli.exits import Exit, exit_of
from keyturn.cli.output import Output
from keyturn.cli.verb import HELP_OPTION
from keyturn.errors import AccessDenied, InternalError, KeyturnError, Unavailable, UsageError
from keyturn.fast import forbid_core, silence

__all__ = ["Verbs", "main", "root"]

_COMPLETE = "_KEYTURN_COMPLETE"


class Verbs(click.Group):
    """The root, which imports a verb only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module = importlib.import_module(f"keyturn.cli.commands.{verb.module}")
        found: click.Command = module.command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, VERBS, n=1)
            raise UsageError(
                f"there is no command `{name}`",
                hint=f"did you mean `keyturn {near[0]}`?" if near else "`keyturn --help` lists all",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, verb in VERBS.items():
            groups.setdefault(verb.group, []).append((name, verb.help))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=Verbs,
    context_settings={**HELP_OPTION, "max_content_width": 100},
    epilog="Exit codes: `keyturn help exit-codes`.",
)
@click.version_option(None, "--version", package_name="keyturn", message="keyturn %(version)s")
def root() -> None:
    """
    Run a production team's secrets from birth to death.

    The project is the folder with keyturn.toml, at or above the working folder.
    """


def main(argv: list[str]) -> int:
    """Run the command line *argv* and return its exit code."""
    forbid_core()
    _mend_streams()
    verbose = "-v" in argv[1:] or "--verbose" in argv[1:]
    output = Output()
    try:
        return _run(argv[1:])
    except KeyturnError as error:
        if verbose:
            _traceback()
        output.error(error)
        return exit_of(error)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, EOFError, KeyboardInterrupt):
        output.say(_interrupted(argv[1:]))
        return Exit.INTERRUPTED
    except click.ClickException as error:
        return _usage(output, error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last place where a fault can be told
        if verbose:
            _traceback()
        told = _refusal(error) if isinstance(error, OSError) else _fault(error)
        if isinstance(error, OSError) and sys.stdout is not None:
            silence(1)  # what click could not write would be tried again at the exit
        output.error(told)
        return exit_of(told)


def _run(words: list[str]) -> int:
    if _COMPLETE in os.environ:
        root.main(words, prog_name="keyturn", complete_var=_COMPLETE)
    # Not `root.main`: it would make an exit of its own out of a broken pipe.
    with root.make_context("keyturn", words) as context:
        code = root.invoke(context)
    return code if isinstance(code, int) else Exit.DONE


def _mend_streams() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # One that is not UTF-8 cannot carry every name, which is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:  # it was closed when we started: nobody listens
        sys.stderr = io.StringIO()


def _refusal(error: OSError) -> KeyturnError:
    """Return what the system refused, in our words: a file's name and a reason, never a content."""
    place = f"`{os.fsdecode(error.filename)}`" if isinstance(error.filename, str | bytes) else ""
    message = f"{place or 'the system'}: {error.strerror or type(error).__name__}"
    if isinstance(error, PermissionError):
        return AccessDenied(message, hint="look who owns it and what its mode is")
    return Unavailable(
        message, hint="check the folder's permissions and free space", code="system.refused"
    )


def _fault(error: Exception) -> KeyturnError:
    # The text of a foreign exception may hold anything, so only its kind is shown.
    return InternalError(
        f"a fault in Keyturn: {type(error).__name__}",
        hint="run again with `-v` and report what it prints, as CONTRIBUTING.md says",
    )


def _interrupted(words: list[str]) -> str:
    if words[:1] == ["sync"]:
        return "interrupted: the same command again does what is left"
    if words[:1] in (["rotate"], ["rollback"], ["tick"]):
        return "interrupted: `keyturn rotate --resume` goes on where a rotation stopped"
    return "interrupted"


def _usage(output: Output, error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        sys.stderr.write(f"{error.format_message()}\n")
        return Exit.USAGE
    path = context.command_path if context is not None else "keyturn"
    output.error(UsageError(_first_lower(error.format_message()), hint=f"`{path} --help`"))
    return Exit.USAGE


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def _traceback() -> None:
    import traceback

    # Frames and lines only: locals and the messages of foreign exceptions may hold values.
    # Of the frames, our own: what click does between them tells nobody anything.
    _, error, trace = sys.exc_info()
    while error is not None:
        frames = traceback.extract_tb(trace)
        own = [frame for frame in frames[:-1] if "/keyturn/" in frame.filename] + frames[-1:]
        sys.stderr.write("".join(traceback.format_list(own)) + f"{type(error).__name__}\n")
        error = error.__cause__
        trace = error.__traceback__ if error is not None else None
