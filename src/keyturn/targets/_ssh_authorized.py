"""Two keys in `authorized_keys`, one after the other; see `keyturn.targets.ssh`."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected
from keyturn.targets._base import OnePhase
from keyturn.targets._ssh_account import Account, key_of

__all__ = ["AuthorizedKeys", "require_another"]


class AuthorizedKeys(OnePhase):
    """
    Puts the new key beside the old one, and takes the old one's line out later.

    Args:
        fields: As declared; a `passphrase` among them protects the private key.
        algorithm: `ed25519` or `rsa`.
    """

    def __init__(
        self, account: Account, *, fields: Sequence[FieldName], algorithm: str, entropy: Entropy
    ) -> None:
        self._account = account
        self._fields = fields
        self._algorithm = algorithm
        self._entropy = entropy

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:  # noqa: ARG002 - the port's
        """Return what a rotation will do."""
        account, path = self._account, self._account.authorized_keys
        return [
            ("create", f"a new {self._algorithm} key pair"),
            ("apply", f"a line for it in `{path}` of `{account}`; the old key goes on working"),
            ("check", f"log in as `{account}` with the new key; nothing is run"),
            ("retire", f"the old key's line in `{path}` goes; sessions that are open stay open"),
            ("prove", f"a login as `{account}` with the old key is refused"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:  # noqa: ARG002 - the port's
        """Return a new key pair."""
        values, _ = self._account.new_values(self._fields, self._algorithm, self._entropy)
        return values

    def apply(self, current: Values | None, pending: Values) -> None:
        """
        Add the line, with the old line's options, unless it is there already.

        Raises:
            Rejected: It is the first key, and there is no administrator to add it.
        """
        if current is None and self._account.admin is None:
            self._account.require_first(pending)
            return
        self._account.add_key(pending, like=current, point="apply")

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Log in with *pending*; raises as `Account.check`."""
        return self._account.check(current, pending)

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Take the new key's line out; the old key's is put back first if it is gone."""
        if current is None and self._account.admin is None:
            # Nobody can have added it but a person.
            return
        if current is not None and not self._account.works(self._account.login(current)):
            self._account.add_key(current, like=pending, point="restore")
        self._account.remove_key(pending, session=current, point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Take the old key's line out. Sessions that it opened stay open.

        Raises:
            VerificationFailed: *current* does not log in, so the old one is let be.
        """
        require_another(current, old)
        self._account.require(current, role="new")
        self._account.remove_key(old, session=current, point="retire")

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """Log in with *old* and be refused; raises as `Account.prove_refused`."""
        return self._account.prove_refused([self._account.login(old)], current=current)

    def probe(self, values: Values) -> Evidence:
        """Log in with *values*; raises as `Account.check`."""
        return self._account.check(None, values)

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return which line of the file is that of *pending*."""
        line, path = key_of(pending).public_line, self._account.authorized_keys
        return (
            f"a line in `{path}` of `{self._account}`, with the key `{line.split()[1][-16:]}`",
            f"take the line out that ends so: {line}",
        )

    def counted_on(self, values: Values) -> SecretValue | None:  # noqa: ARG002 - the port's
        """Return the account: a server may turn away who failed there too often."""
        return SecretValue.from_text(self._account.user)

    def rehearsal(self) -> RotationKind:
        """Return itself: a second key's line comes and goes, the first one's stays."""
        return self


def require_another(current: Values, old: Values) -> None:
    """
    Do nothing where the two are different keys.

    Raises:
        Rejected: They are one: ending the old would end the new.
    """
    if key_of(current).public_line == key_of(old).public_line:
        raise Rejected("the old and the new version hold the same key", code="target.same-key")
