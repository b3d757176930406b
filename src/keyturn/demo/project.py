"""The Clipper example as the demo needs it: its files, its settings, values for vendors' keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.errors import NotFound

__all__ = ["MANIFEST", "bought", "copy", "finished_manifest", "made_up_values"]

MANIFEST = "keyturn.toml"
_TWITCH_CHARACTERS = 30
# Where a vendor's keys have a form that `keyturn test` looks at.
_PREFIXES: Mapping[str, str] = {
    "openai-key": "sk-",
    "sendgrid-key": "SG.",
    "stripe-key": "sk_test_",
    "stripe-webhook-secret": "whsec_",
}


def copy(names: Iterable[str], folder: Path) -> None:
    """
    Copy the files *names* of the example into *folder*.

    Raises:
        NotFound: This installation lacks the example.
    """
    for name in names:
        (folder / name).write_bytes(_example(name).read_bytes())


def finished_manifest(settings: Mapping[str, str]) -> str:
    """Return the example's manifest, its comments kept, with *settings* as they are here."""
    from keyturn.manifest import set_key

    text = _example(MANIFEST).read_text("utf-8")
    for name, value in settings.items():
        text = set_key(text, ("config", name), value)
    return text


def bought(secrets: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """
    Return those of *secrets* that are needed and missing, and that nobody here can make.

    Args:
        secrets: Entries of `keyturn list --json`.
    """
    from keyturn.manifest import Making, SecretKind, kind_spec

    def is_made_here(kind: SecretKind) -> bool:
        # There is no Redis on the stage that could be told of a new password.
        return kind_spec(kind).making is not Making.NONE and kind is not SecretKind.REDIS_LOGIN

    return [
        secret
        for secret in secrets
        if secret["required"]
        and not secret["complete"]
        and not is_made_here(SecretKind(secret["kind"]))
    ]


def made_up_values(secrets: Iterable[Mapping[str, Any]], *, entropy: Entropy | None = None) -> str:
    """
    Return a .env with a made-up value for each variable of *secrets*.

    Args:
        secrets: Entries of `keyturn list --json`.
    """
    source = entropy or SystemEntropy()
    return "".join(
        f"{variable}={_made_up(secret['kind'], variable, source.random_bytes(20).hex())}\n"
        for secret in secrets
        for variable in secret["variables"]
    )


def _made_up(kind: str, variable: str, random: str) -> str:
    if variable.endswith("_DSN"):
        return f"https://{random[:32]}@sentry.invalid/1"
    if kind == "sendgrid-key":
        return f"SG.keyturndemo{random[:11]}.{random}{random[:3]}"
    if kind == "twitch-app":
        return f"keyturndemo{random}"[:_TWITCH_CHARACTERS]
    return f"{_PREFIXES.get(kind, '')}keyturndemo{random}"


def _example(name: str) -> Traversable:
    packaged = resources.files("keyturn") / "_examples" / "clipper" / name
    # A source tree whose link was lost on the way still has the example itself.
    beside = Path(__file__).parents[3] / "examples" / "clipper" / name
    for found in (packaged, beside):
        if found.is_file():
            return found
    raise NotFound(
        f"this installation lacks the example's `{name}`",
        hint="install Keyturn again, or run the demo from its repository with `./dev demo`",
    )
