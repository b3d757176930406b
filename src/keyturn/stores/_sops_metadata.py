"""
What a SOPS file says of itself: who can open it, its MAC, its rules; pure.

In YAML and JSON it is the mapping `sops`. A `.env` file has it flat, as lines such as
`sops_age__list_0__map_recipient=age1...`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from keyturn.crypto.agefile import is_recipient
from keyturn.errors import Corrupt, Rejected

__all__ = ["Stanza", "flat", "others_of", "stanzas", "unflat"]

_STEP = re.compile(r"__(map|list)_")
_MAX_LIST = 1_000
_OTHERS: Final = {
    "pgp": "PGP",
    "kms": "AWS KMS",
    "gcp_kms": "GCP KMS",
    "azure_kv": "Azure Key Vault",
    "hc_vault": "Vault",
    "hckms": "Huawei KMS",
    "acs_kms": "Alibaba KMS",
}


@dataclass(frozen=True, slots=True)
class Stanza:
    """The data key, sealed for one age recipient."""

    recipient: str
    sealed: str

    @property
    def is_ours(self) -> bool:
        """Whether it is of the kind that Keyturn can write."""
        return is_recipient(self.recipient)


def stanzas(metadata: Mapping[str, Any], *, file: str) -> list[Stanza]:
    """
    Return the data key as it is sealed for each age recipient.

    Raises:
        Corrupt: The entries are malformed.
        Rejected: The key is split among groups of keys.
    """
    if metadata.get("key_groups"):
        raise Rejected(
            f"the key of `{file}` is split among groups of keys, which Keyturn cannot open",
            hint="write it with one group: `sops updatekeys` after changing `.sops.yaml`",
            code="store.form",
        )
    found = metadata.get("age") or []
    try:
        return [Stanza(str(entry["recipient"]), str(entry["enc"])) for entry in found]
    except (TypeError, KeyError):
        raise Corrupt(f"the list of age recipients in `{file}` is damaged") from None


def others_of(metadata: Mapping[str, Any], found: list[Stanza]) -> list[str]:
    """Return what can open the file beside plain age recipients, for messages."""
    others = [name for key, name in _OTHERS.items() if metadata.get(key)]
    # A newer SOPS may know kinds of keys that this list does not.
    known = {*_OTHERS, "age", "key_groups"}
    others += [key for key, value in metadata.items() if key not in known and _is_list(value)]
    return others + [f"`{each.recipient[:40]}`" for each in found if not each.is_ours]


def flat(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return *metadata* as the lines of a `.env` file have it, sorted."""
    lines = dict(_flat("", metadata))
    return {f"sops_{name}": lines[name] for name in sorted(lines)}


def unflat(lines: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the metadata of which *lines*, less their `sops_`, are the flat form.

    Raises:
        ValueError: They contradict each other.
    """
    tree: dict[str | int, Any] = {}
    for name, text in lines.items():
        parts = _STEP.split(name)
        steps: list[str | int] = [parts[0]]
        for kind, step in zip(parts[1::2], parts[2::2], strict=True):
            steps.append(step if kind == "map" else int(step))
        node = tree
        for step in steps[:-1]:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise ValueError("a text where a list should be")  # noqa: TRY004 - as `int` does
        node[steps[-1]] = text
    return {str(name): _lists(node) for name, node in tree.items()}


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _flat(prefix: str, node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(f"{prefix}__map_{key}" if prefix else str(key), value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _flat(f"{prefix}__list_{index}", value)
    elif node is not None:
        yield prefix, str(node).lower() if isinstance(node, bool) else str(node)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if all(isinstance(key, int) for key in node):
        if sorted(node) != list(range(len(node))) or len(node) > _MAX_LIST:
            raise ValueError("a list with a gap")
        return [_lists(node[index]) for index in sorted(node)]
    return {str(key): _lists(value) for key, value in node.items()}
