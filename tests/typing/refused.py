"""
What the type checker must refuse: each line marked `# error: CODE` is one such mistake.

`test_typing_public.py` gives this to the type checker and compares; it is never run.
"""

from __future__ import annotations

from keyturn import SecretValue
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.ports import Evidence, Store
from keyturn.errors import ManifestError, Missing

REF = SecretRef(EnvironmentName("production"), SecretName("db"))
VALUES = {FieldName("password"): SecretValue(b"made up")}
WORDS = {"password": "text"}


def mistakes(store: Store, value: SecretValue) -> None:
    store.put_pending(REF, VALUES, origin=Origin.SET)  # error: call-arg
    store.put_pending(REF, VALUES, origin="set", token=Token("t"))  # error: arg-type
    store.put_pending(REF, VALUES, origin=Origin.SET, token="t")  # error: arg-type
    store.put_pending(REF, WORDS, origin=Origin.SET, token=Token("t"))  # error: arg-type
    store.promote(REF, 1)  # error: call-arg
    store.read(REF, "current")  # error: arg-type
    SecretRef("production", "db")  # error: arg-type
    SecretValue("text")  # error: arg-type
    value + b"more"  # error: operator
    value.value  # error: attr-defined
    len(value)  # error: arg-type
    b"".join([value])  # error: list-item
    REF.name = SecretName("other")  # error: misc
    Evidence("seen", value)  # error: arg-type
    Missing("two are missing")  # error: call-arg
    ManifestError("wrong")  # error: arg-type


class Sub(SecretValue):  # error: misc
    pass


class NoStore:
    """Lacks most of a store."""

    def state(self, ref: SecretRef) -> None: ...


def wanted() -> Store:
    return NoStore()  # error: return-value
