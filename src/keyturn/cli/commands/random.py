"""`keyturn random`: print one random value, as the usual `openssl rand` lines did."""

from __future__ import annotations

import re

import click

from keyturn.app.generation import RANDOM_FORMATS, random_for_person
from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.core.entropy import SystemEntropy
from keyturn.errors import UsageError
from keyturn.fast import write_value

EXAMPLES = """
keyturn random                                   # 32 bytes as base64: 44 characters
keyturn random --format hex                      # 32 bytes: 64 characters
keyturn random --format alphanumeric --length 32
"""


_SETTING = re.compile(r"`(bytes|length) = ([0-9]+)`")


@verb(examples=EXAMPLES)
@click.option(
    "--format",
    "form",
    type=click.Choice(RANDOM_FORMATS),
    default="base64",
    show_default=True,
)
@click.option("--bytes", "size_bytes", type=int, help="For base64, hex and url: 32 by default.")
@click.option("--length", type=int, help="In characters, for the other formats: 32 by default.")
@click.option("-q", "--quiet", count=True, help="Do not say how many bits it holds.")
def command(form: str, size_bytes: int | None, length: int | None, quiet: int) -> None:
    """
    Print one random value from the operating system's generator. Nothing is stored.

    The bits of entropy are said on standard error; under 112 is refused.
    """
    try:
        value, bits = random_for_person(
            form, size_bytes=size_bytes, length=length, entropy=SystemEntropy()
        )
    except UsageError as error:
        # The rule is the manifest's too, and names its settings.
        error.hint = _SETTING.sub(r"`--\1 \2`", error.hint or "")
        raise
    write_value(value.reveal())
    # Cut, not rounded: never more than there are.
    Output(quiet=quiet).say(f"{int(bits)} bits of entropy")
