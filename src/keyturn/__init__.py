"""
Keyturn runs a production team's secrets from birth to death.

The names below are the public ones. They load on first use: the command's fast
path imports this package thousands of times a day and needs none of them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyturn.core.value import SecretValue
    from keyturn.errors import KeyturnError

__all__ = ["KeyturnError", "SecretValue", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "SecretValue":
        from keyturn.core.value import SecretValue

        return SecretValue
    if name == "KeyturnError":
        from keyturn.errors import KeyturnError

        return KeyturnError
    raise AttributeError(f"module 'keyturn' has no attribute {name!r}")
