"""Names and identifiers: their types, and the one place where each form is checked."""

from __future__ import annotations

import re
from typing import NewType

from keyturn.core.entropy import Entropy

__all__ = [
    "ConsumerName",
    "EnvironmentName",
    "FieldName",
    "RotationId",
    "SecretName",
    "StoreName",
    "Token",
    "VariableName",
    "is_field_name",
    "is_name",
    "is_variable_name",
    "new_id",
]

SecretName = NewType("SecretName", str)
FieldName = NewType("FieldName", str)
EnvironmentName = NewType("EnvironmentName", str)
ConsumerName = NewType("ConsumerName", str)
StoreName = NewType("StoreName", str)
VariableName = NewType("VariableName", str)
RotationId = NewType("RotationId", str)
# Made by the caller before a write and given again on retry, so that a write whose
# answer was lost is recognised as the caller's own.
Token = NewType("Token", str)

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


def is_name(text: str) -> bool:
    """Tell whether *text* can name a secret, environment, consumer or store."""
    return _NAME.fullmatch(text) is not None


def is_field_name(text: str) -> bool:
    """Tell whether *text* can name a field of a secret."""
    return _FIELD.fullmatch(text) is not None


def is_variable_name(text: str) -> bool:
    """Tell whether *text* is a portable environment variable name (POSIX.1-2017, 8.1)."""
    return _VARIABLE.fullmatch(text) is not None


def new_id(entropy: Entropy) -> str:
    """Return a fresh 128-bit identifier as 32 hexadecimal digits."""
    return entropy.random_bytes(16).hex()
