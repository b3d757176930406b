"""Which module builds which kind; a module is imported when its kind is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

from keyturn.core.ports import KindContext, RotationKind

__all__ = ["BUILDERS", "build"]

# Each names a module of this room with a function `build(context)`.
BUILDERS: Mapping[str, str] = MappingProxyType(
    {
        "postgres-login": "_postgres_build",
        "redis-login": "redis",
        "jwt-signing-key": "jwt",
        "session-secret": "session",
        "encryption-key": "encryption",
        "openai-key": "openai",
        "sendgrid-key": "sendgrid",
        "stripe-key": "stripe",
        "stripe-webhook-secret": "stripe_webhook",
        "twitch-app": "twitch",
        "vault-approle": "approle",
        "aws-access-key": "aws",
        "ssh-key": "ssh",
        "generated": "generated",
        "guided": "guided",
        "command": "command",
        "external": "external",
    }
)


def build(kind: str, context: KindContext) -> RotationKind:
    """
    Return the steps for a secret of *kind*.

    Raises:
        UsageError: The manifest does not say enough of the target.
        KeyError: No such kind rotates.
    """
    module = importlib.import_module(f"keyturn.targets.{BUILDERS[kind]}")
    return cast("Callable[[KindContext], RotationKind]", module.build)(context)
