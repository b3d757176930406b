"""
What the keys of a vendor's API have in common: several work at once, and using one tells.

A kind says how its key is used harmlessly, and what the answer means; how often it
is asked, what is compared and what proves a key dead is said here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum

from keyturn.core.clock import Clock
from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.errors import NotYet, Rejected, Unavailable, VerificationFailed
from keyturn.targets._base import OnePhase
from keyturn.targets._http import Answer, until

__all__ = ["KEY_ID", "STILL_WORKS", "VALUE", "VendorKey", "Verdict", "value_of"]

VALUE = FieldName("value")
# What the vendor calls the key: it can be ended by it, and not used.
KEY_ID = FieldName("key_id")
STILL_WORKS = "target.still-works"


class Verdict(Enum):
    """What the answer to a use of a key says of the key."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCLEAR = "unclear"


class VendorKey(OnePhase, ABC):
    """
    The steps that only use a key; a subclass makes and ends keys.

    Args:
        name: The vendor's name, for messages.
    """

    def __init__(self, name: str, *, clock: Clock) -> None:
        self._name = name
        self._clock = clock

    @abstractmethod
    def use(self, value: SecretValue) -> Answer:
        """Use *value* harmlessly; what the vendor says of the key is an answer, not an error."""

    @abstractmethod
    def verdict(self, answer: Answer) -> Verdict:
        """Return what *answer* to `use` means."""

    @abstractmethod
    def compare(self, old: Answer, new: Answer) -> None:
        """
        Compare what two keys may do, from the answers to `use`.

        Raises:
            VerificationFailed: It is not the same.
        """

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: the vendor accepts a key from the moment that it made it."""

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Use the new key, and compare its rights with those of the old one.

        Raises:
            VerificationFailed: It is refused, or has other rights.
            Unavailable: No answer that tells.
        """
        new = until(self._clock, lambda: self._accepted(value_of(pending)))
        if new is None:
            raise VerificationFailed(
                f"{self._name} refuses the new key, {self._seconds} after it was made",
                hint="run the command again later; the old key is still in use",
            )
        if current is None:
            return Evidence("key accepted", f"{self._name} answered {new.status}")
        old = self.use(value_of(current))
        verdict = self.verdict(old)
        if verdict is Verdict.UNCLEAR:
            raise self._unclear(old)
        if verdict is Verdict.REFUSED:
            return Evidence(
                "key accepted", f"{self._name} answered {new.status}; the old key is refused"
            )
        self.compare(old, new)
        return Evidence("key accepted", f"{self._name} answered {new.status}, as to the old key")

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        Use *old* and be refused, while *current* is not.

        Raises:
            VerificationFailed: It still works (code `target.still-works`).
            Unavailable: No answer, or one that proves nothing.
        """
        refused = until(self._clock, lambda: self._refused(value_of(old)))
        if refused is None:
            raise VerificationFailed(
                f"{self._name} still accepts the old key, {self._seconds} after it was ended",
                hint=f"delete it at {self._name}, then run the command again",
                code=STILL_WORKS,
            )
        if current is not None and self.verdict(self.use(value_of(current))) is Verdict.REFUSED:
            raise Unavailable(
                f"{self._name} refuses the key in use as well, so that proves nothing of the old",
                hint="check base_url in the secret's target, and the key in use",
            )
        return Evidence("key refused", f"{refused.status} {refused.words()}".strip())

    def probe(self, values: Values) -> Evidence:
        """
        Use *values* once.

        Raises:
            VerificationFailed: They are refused.
            Unavailable: No answer that tells.
        """
        answer = self.use(value_of(values))
        match self.verdict(answer):
            case Verdict.REFUSED:
                raise VerificationFailed(
                    f"{self._name} refuses the key: {answer.status} {answer.words()}".strip(),
                    hint="it may have been deleted there: rotate it, or set one that works",
                )
            case Verdict.UNCLEAR:
                raise self._unclear(answer)
            case Verdict.ACCEPTED:
                return Evidence("key accepted", f"{self._name} answered {answer.status}")

    def is_dead(self, values: Values) -> bool:
        """Whether *values* are refused right now."""
        return self.verdict(self.use(value_of(values))) is Verdict.REFUSED

    def is_soon_dead(self, values: Values) -> bool:
        """Whether *values* are refused, after a while at the latest."""
        return until(self._clock, lambda: self.is_dead(values) or None) is not None

    def by_hand(self, message: str, where: str) -> NotYet:
        """Return the error for an old key that only a person can tell from others."""
        return NotYet(
            message,
            person=True,
            hint=f"delete the old key at {where}; then keyturn rotate --resume",
        )

    def refuse_in_use(self, same: bool, what: str) -> None:  # noqa: FBT001 - it reads as a sentence
        """
        Return where the key to end is not *same* as one in use.

        Raises:
            Rejected: It is.
        """
        if same:
            raise Rejected(
                f"the key to end at {self._name} is {what}, and is not ended",
                hint="see `keyturn history`: two versions hold the same key",
                code="target.in-use",
            )

    @property
    def _seconds(self) -> str:
        return "20 seconds"

    def _accepted(self, value: SecretValue) -> Answer | None:
        answer = self.use(value)
        verdict = self.verdict(answer)
        if verdict is Verdict.UNCLEAR:
            raise self._unclear(answer)
        return answer if verdict is Verdict.ACCEPTED else None

    def _refused(self, value: SecretValue) -> Answer | None:
        answer = self.use(value)
        verdict = self.verdict(answer)
        if verdict is Verdict.UNCLEAR:
            raise self._unclear(answer)
        return answer if verdict is Verdict.REFUSED else None

    def _unclear(self, answer: Answer) -> Unavailable:
        return Unavailable(
            f"{self._name} answered {answer.status}, which says nothing of the key:"
            f" {answer.words() or 'no reason given'}",
            hint="check that this machine may use the API: address list, region",
        )


def value_of(values: Values) -> SecretValue:
    """
    Return the key itself.

    Raises:
        VerificationFailed: There is none in *values*.
    """
    value = values.get(VALUE)
    if value is None:
        raise VerificationFailed(
            "the version has no field `value`", hint="set it again with `keyturn set`"
        )
    return value
