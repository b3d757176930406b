"""Deletion in AWS, which takes days and can be taken back until then."""

from __future__ import annotations

from keyturn.core.model import SecretRef
from keyturn.errors import NotFound
from keyturn.stores._aws_copies import Copies
from keyturn.stores._aws_secrets import AwsSecrets

__all__ = ["delete", "undelete"]


def delete(secrets: AwsSecrets, copies: Copies, ref: SecretRef) -> None:
    """Schedule the secret and its copies for deletion, in one try."""
    sight = secrets.look_at_each([ref]).get(ref)
    mark = None if sight is None else sight.recorded
    for name in () if mark is None else copies.fields(mark):
        secrets.delete(ref, name)
    # Last: without it nobody knows which fields had a name of their own.
    secrets.delete(ref)


def undelete(secrets: AwsSecrets, copies: Copies, ref: SecretRef, *, where: str) -> None:
    """
    Take the deletion back, in one try.

    Raises:
        NotFound: There is no such secret any more.
    """
    if not secrets.undelete(ref):
        raise NotFound(
            f"`{secrets.name(ref)}` is not in {where}",
            hint="a deletion cannot be taken back after its recovery window",
        )
    sight = secrets.look(ref)
    mark = None if sight is None else sight.recorded
    for name in () if mark is None else copies.fields(mark):
        secrets.undelete(ref, name)
