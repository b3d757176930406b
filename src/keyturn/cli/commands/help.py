"""`keyturn help`: the topics that belong to no verb."""

from __future__ import annotations

import click

from keyturn.cli.exits import MEANINGS
from keyturn.cli.output import Output
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn help exit-codes
keyturn help environment
"""

_ENVIRONMENT = """\
KEYTURN_ENVIRONMENT   the environment, where `-e` names none; default: development
KEYTURN_HOME          the folder that holds the keys of every store;
                      default: $XDG_DATA_HOME/keyturn, or ~/.local/share/keyturn
KEYTURN_REASON        why a protected environment is changed, where `--reason` says nothing
NO_COLOR              any text: no colour

Keyturn takes no value from its environment or its arguments.
A program started by `keyturn run` also gets:

KEYTURN_VERSIONS      the version of each secret that it was given: `db=3 jwt=1`
"""

_FORMATS = """\
A rendered file (`[consumers.NAME.render]`) has one of these formats:

dotenv   NAME='value' lines, as shells, compose and dotenv readers agree on them
json     one object of strings
shell    export NAME='value' lines, for `. FILE`
files    a folder with one file a variable, byte for byte

Generated values (`keyturn random --format`):

base64         32 bytes make 44 characters, 256 bits
hex            32 bytes make 64 characters, 256 bits
url            32 bytes make 43 characters that need no escaping in a URL
alphanumeric   32 characters, 190 bits
ascii          32 printable characters, 209 bits
"""


def _kinds() -> str:
    from keyturn.manifest import KINDS

    width = max(len(kind) for kind in KINDS)
    return "".join(f"{kind:<{width}}   {spec.summary}\n" for kind, spec in KINDS.items())


def _exit_codes() -> str:
    return "".join(f"{code.value:>3}   {meaning}\n" for code, meaning in MEANINGS.items())


_TOPICS = {
    "exit-codes": _exit_codes,
    "environment": lambda: _ENVIRONMENT,
    "formats": lambda: _FORMATS,
    "kinds": _kinds,
}


@verb(examples=EXAMPLES)
@click.argument("topic", type=click.Choice(list(_TOPICS)))
def command(topic: str) -> None:
    """Explain TOPIC."""
    Output().text(_TOPICS[topic]())
