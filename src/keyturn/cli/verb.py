"""How one verb of the command line is declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

__all__ = ["HELP_OPTION", "VerbGroup", "verb", "verb_group"]

HELP_OPTION: Final = {"help_option_names": ["-h", "--help"]}


class _Examples(click.Command):
    """Help that begins with examples."""

    examples: str = ""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_usage(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.examples.splitlines()))


class VerbGroup(_Examples, click.Group):
    """A verb that has verbs of its own."""


def verb(*, examples: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """
    Turn a function into a verb.

    Args:
        examples: Lines shown first in the verb's help.
        settings: Passed on to click.
    """
    # Given to each verb, not inherited: click keeps the option that it made first.
    settings["context_settings"] = {**HELP_OPTION, **settings.get("context_settings", {})}

    def wrap(function: Callable[..., Any]) -> click.Command:
        made = click.command(cls=_Examples, **settings)(function)
        made.examples = examples.strip()
        return made

    return wrap


def verb_group(*, examples: str) -> Callable[[Callable[..., Any]], VerbGroup]:
    """Turn a function into a verb that has verbs of its own; *examples* as for `verb`."""

    def wrap(function: Callable[..., Any]) -> VerbGroup:
        made = click.group(cls=VerbGroup, context_settings=HELP_OPTION)(function)
        made.examples = examples.strip()
        return made

    return wrap
