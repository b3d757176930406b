r"""
A SOPS file as a store, for teams that keep what is sealed in git.

The live file is one that `sops` reads and edits, in the form that its name ends in:
`.env`, `.yaml`, `.yml` or `.json`. Keyturn reads and writes the format itself. What it
does not change keeps every byte, ciphertexts and comments included; each write makes a
new time and a new MAC, and each reading verifies the MAC.

Values are sealed as they are, byte for byte. `sops decrypt` shows them so, but where
the form cannot: a `.env` file spells a new line as `\n`, and JSON has no bytes that are
not text. Whoever saves such a value with `sops edit` changes it, which is seen as drift.

Pending and older values, and the ledger, lie beside the live file in one of age's own,
`NAME.keyturn.age`, sealed for the same recipients, so that the team shares both.

What cannot be seen in such a file: that an old one was put back, which looks as if
somebody had gone back to those versions; that comments were changed, or keys with
nothing in them came or went; that its version or a list of others' keys was changed. The
MAC is of values, not of who wrote them: whoever may commit can make a whole new file
for the same recipients, which is for the review of commits to see. A recipient who left
still opens what is in git's history: the values must be rotated.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from keyturn.core.ids import EnvironmentName
from keyturn.core.ports import StoreCapabilities
from keyturn.core.value import SecretValue
from keyturn.crypto.agefile import is_recipient
from keyturn.errors import Corrupt, UsageError
from keyturn.stores._context import StoreContext
from keyturn.stores._file_place import FileLayout
from keyturn.stores._sops_dotenv import DotenvForm
from keyturn.stores._sops_json import JsonForm
from keyturn.stores._sops_keys import AgeKeys, conflicted, identity_files
from keyturn.stores._sops_sheet import Form
from keyturn.stores._sops_text import SopsText
from keyturn.stores._sops_yaml import YamlForm
from keyturn.stores.outside import OutsideStore

__all__ = ["AgeAside", "build"]

_CAPABILITIES: Final = StoreCapabilities(
    atomic_promote=True,
    compare_and_set=True,
    history=True,
    transactional=False,
    max_value_bytes=256 * 1024,
)
_PATH = "secrets/{environment}.env"
_ENDING = ".keyturn.age"


def build(context: StoreContext) -> OutsideStore:
    """
    Return the store that *context* describes.

    Raises:
        UsageError: The path leaves the project, its ending is none of SOPS's, or a
            recipient is not one of age.
    """
    pattern = context.text("path") or _PATH
    keys = AgeKeys(_recipients(context), _identities(context), entropy=context.entropy)
    form = _form(pattern)

    def files(environment: EnvironmentName) -> tuple[Path, Path]:
        live = context.file(pattern, environment)
        return live, live.with_suffix(_ENDING)

    layout = FileLayout(
        files,
        text=SopsText(form, keys=keys, clock=context.clock, entropy=context.entropy),
        seal=AgeAside(keys),
        key=context.live_key,
        where=f"the SOPS file {pattern}",
        capabilities=_CAPABILITIES,
    )
    return OutsideStore(layout, clock=context.clock, entropy=context.entropy)


class AgeAside:
    """Implements `Aside`: a file of age, in armor, so that git marks a conflict in it."""

    def __init__(self, keys: AgeKeys) -> None:
        self._keys = keys

    def seal(self, data: bytes) -> bytes:
        """Return *data* sealed for the recipients."""
        return self._keys.seal(SecretValue(data)).encode("ascii")

    def open(self, data: bytes, *, file: Path) -> bytes:
        """Return what `seal` was given."""
        conflicted(data, file)
        what = f"`{file}`"
        try:
            return self._keys.open(data.decode("ascii"), what=what).reveal()
        except UnicodeDecodeError:
            raise Corrupt(f"{what} is not a file of age in armor") from None


def _form(pattern: str) -> Form:
    if pattern.endswith(".env"):
        return DotenvForm()
    if pattern.endswith((".yaml", ".yml")):
        return YamlForm()
    if pattern.endswith(".json"):
        return JsonForm()
    raise UsageError(
        f"`{pattern}` says by its ending which form it has, and SOPS knows none such",
        hint="let it end in `.env`, `.yaml` or `.json`",
        code="store.path",
    )


def _recipients(context: StoreContext) -> list[str]:
    found = context.settings.options.get("recipients")
    recipients = [str(text) for text in found] if isinstance(found, list | tuple) else []
    for text in recipients:
        if not is_recipient(text):
            raise UsageError(
                f"`{text[:100]}` among the `recipients` of the store `{context.settings.name}` "
                "is not one of age",
                hint="`age-keygen -y` prints the one of an identity; it is `age1` and 58 more",
                code="store.recipients",
            )
    return recipients


def _identities(context: StoreContext) -> list[Path]:
    stated = context.text("identity_file")
    if stated is None:
        return identity_files(None, os.environ)
    try:
        # Identities are kept out of the project; one may yet be named from it.
        return identity_files(context.folder / Path(stated).expanduser(), os.environ)
    except RuntimeError:
        raise UsageError(
            f"`{stated}` names nobody's home",
            hint="write the path in full",
            code="store.path",
        ) from None
