"""Variable names that no manifest may hand to a program."""

from __future__ import annotations

from keyturn.manifest.strength import words

__all__ = ["is_keyturn_variable", "is_loader_variable"]

# Whoever may set these decides what programs run in the child's place.
_LOADER_VARIABLES = words(
    "BASH_ENV GIT_ASKPASS GIT_SSH GIT_SSH_COMMAND IFS JAVA_TOOL_OPTIONS NODE_OPTIONS PATH PERL5LIB"
    " PERL5OPT PROMPT_COMMAND PYTHONHOME PYTHONPATH PYTHONSTARTUP RUBYLIB RUBYOPT SHELLOPTS"
    " _JAVA_OPTIONS"
)
_LOADER_PREFIXES = ("LD_", "DYLD_")


def is_keyturn_variable(name: str) -> bool:
    """Tell whether *name* is one that Keyturn sets itself."""
    return name.upper().startswith("KEYTURN_")


def is_loader_variable(name: str) -> bool:
    """Tell whether *name* decides what programs run."""
    upper = name.upper()
    return upper in _LOADER_VARIABLES or upper.startswith(_LOADER_PREFIXES)
