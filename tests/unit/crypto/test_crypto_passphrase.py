"""A root key from a passphrase."""

from __future__ import annotations

import base64

import pytest

from keyturn.core.value import SecretValue
from keyturn.crypto import MINIMUM_CHARACTERS, PassphraseParameters, derive_root_key
from keyturn.errors import Corrupt, UsageError
from keyturn.testing import SeededEntropy

SALT = b"fake salt 123456"
QUICK = PassphraseParameters(salt=SALT, memory_kib=8 * 1024, passes=1, lanes=1)
SALT_TEXT = base64.b64encode(SALT).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "argon2id",
        f"argon2i$v=19$m=65536,t=3,p=4${SALT_TEXT}",
        f"argon2id$v=16$m=65536,t=3,p=4${SALT_TEXT}",
        f"argon2id$v=19$m=1073741824,t=3,p=4${SALT_TEXT}",
        f"argon2id$v=19$m=1048577,t=3,p=4${SALT_TEXT}",
        f"argon2id$v=19$m=8191,t=3,p=4${SALT_TEXT}",
        f"argon2id$v=19$m=65536,t=0,p=4${SALT_TEXT}",
        f"argon2id$v=19$m=65536,t=17,p=4${SALT_TEXT}",
        f"argon2id$v=19$m=65536,t=3,p=0${SALT_TEXT}",
        f"argon2id$v=19$m=65536,t=3,p=17${SALT_TEXT}",
        f"argon2id$v=19$m=65536,t=3,p=4${SALT_TEXT[:8]}",
        f"argon2id$v=19$m=65536,t=3,p=4${'A' * 5}",
        f"argon2id$v=19$m=65536,t=3,p=4${SALT_TEXT}\n",
        f"argon2id$v=19$m=٦٥٥٣٦,t=3,p=4${SALT_TEXT}",
    ],
)
def test_parameters_out_of_bounds_are_refused(text):
    """A file can neither ask for a terabyte nor make guessing cheap."""
    with pytest.raises(Corrupt) as caught:
        PassphraseParameters.parse(text)
    assert caught.value.hint


def test_parameters_survive_their_text():
    """What is recorded is what is read back."""
    made = PassphraseParameters.new(SeededEntropy())
    assert PassphraseParameters.parse(str(made)) == made
    assert str(made).startswith("argon2id$v=19$m=65536,t=3,p=4$")
    assert PassphraseParameters.parse(str(QUICK)) == QUICK


@pytest.mark.parametrize("phrase", [b"", b"x" * (MINIMUM_CHARACTERS - 1)])
def test_a_short_phrase_is_refused(phrase):
    """Whoever copies the store can try short phrases."""
    with pytest.raises(UsageError) as caught:
        derive_root_key(SecretValue(phrase), QUICK)
    assert caught.value.hint


def test_phrase_and_salt_and_work_all_count():
    """Each gives another key, and the same ones the same key."""
    phrase = SecretValue(b"fake phrase for tests")
    first = derive_root_key(phrase, QUICK)
    assert derive_root_key(phrase, QUICK).value == first.value
    others = [
        derive_root_key(SecretValue(b"fake phrase for testz"), QUICK),
        derive_root_key(phrase, PassphraseParameters(SALT[::-1], 8 * 1024, 1, 1)),
        derive_root_key(phrase, PassphraseParameters(SALT, 8 * 1024, 2, 1)),
    ]
    assert first.id not in {other.id for other in others}


def test_one_phrase_on_two_keyboards_is_one_phrase():
    """Composed and decomposed letters are the same letters."""
    composed = SecretValue("fäke phrase for tests".encode())
    decomposed = SecretValue("fa\u0308ke phrase for tests".encode())
    assert derive_root_key(composed, QUICK).id == derive_root_key(decomposed, QUICK).id


def test_a_phrase_need_not_be_text():
    """Bytes from a file are taken as they are."""
    assert derive_root_key(SecretValue(b"\xff" * 16), QUICK).id
