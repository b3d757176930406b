"""Values that `run` will refuse, told of where they are given and where they are tested."""

from __future__ import annotations

from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.deliver import check_variables
from keyturn.errors import DeliveryError
from keyturn.manifest import Secret

__all__ = ["unfit_values"]


def unfit_values(secret: Secret, values: Values) -> dict[FieldName, str]:
    """Return the fields of *values* that no environment carries, and why; without a value."""
    found = {}
    for variable, field in secret.variables.items():
        if field not in values:
            continue
        try:
            check_variables({variable: values[field]})
        except DeliveryError as error:
            found[field] = f"{error.message}: `run` refuses it; {error.hint}"
    return found
