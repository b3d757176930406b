"""`keyturn completion`: the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.errors import InternalError

EXAMPLES = """
keyturn completion bash > ~/.local/share/bash-completion/completions/keyturn
keyturn completion zsh > "${fpath[1]}/_keyturn"
keyturn completion fish > ~/.config/fish/completions/keyturn.fish
"""


@verb(examples=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """
    Print the completion script for SHELL.

    It completes verbs, options, environments, consumers and the names of secrets.
    It reads the manifest only: no store is opened.
    """
    from keyturn.cli.main import root

    found = get_completion_class(shell)
    if found is None:
        raise InternalError(f"no completion is known for `{shell}`")
    script = found(root, {}, "keyturn", "_KEYTURN_COMPLETE").source()
    Output().text(script)
