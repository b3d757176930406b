"""Keys that a CA vouches for, so that no server keeps a list; see `keyturn.targets.ssh`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, RotationKind
from keyturn.core.value import SecretValue
from keyturn.crypto.sshkeys import PLAIN_KEY_EXTENSIONS, Certificate, certify, read_certificate
from keyturn.errors import NotYet
from keyturn.targets._base import OnePhase
from keyturn.targets._ssh_account import CERTIFICATE, Account
from keyturn.targets._ssh_authorized import require_another
from keyturn.targets._ssh_connection import Login

__all__ = ["Authority", "Certified"]

# Clocks differ; a certificate that is not valid yet is refused.
_BACKDATED_SECONDS = 300
_REHEARSED_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Authority:
    """
    The CA, and what it says.

    Args:
        revoked_keys: The server's text file `RevokedKeys`; None where it has none, so
            that an old certificate works until it expires.
    """

    private: SecretValue
    passphrase: SecretValue | None
    validity_seconds: int
    revoked_keys: str | None


class Certified(OnePhase):
    """
    Gives every new key a certificate, and revokes the old one.

    Args:
        fields: As declared; the certificate comes beside them.
    """

    def __init__(
        self,
        account: Account,
        authority: Authority,
        *,
        fields: Sequence[FieldName],
        algorithm: str,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._account = account
        self._authority = authority
        self._fields = fields
        self._algorithm = algorithm
        self._clock = clock
        self._entropy = entropy

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        days = self._authority.validity_seconds / 86_400
        path = self._authority.revoked_keys
        ends = f"the old key is put on `{path}`" if path else "nothing: wait until it has expired"
        if current is not None and CERTIFICATE not in current:
            ends = f"the old key's line in `{self._account.authorized_keys}` goes"
        return [
            ("create", f"a new {self._algorithm} key pair, certified for {days:g} days"),
            ("apply", "nothing: the server trusts the CA"),
            ("check", f"log in as `{self._account}` with the certificate; nothing is run"),
            ("retire", f"{ends}; sessions that are open stay open"),
            ("prove", f"a login as `{self._account}` with the old certificate is refused"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:
        """Return a new key pair with its certificate; rights are those of the old certificate."""
        values, key = self._account.new_values(self._fields, self._algorithm, self._entropy)
        old = _certificate_of(current)
        now = int(self._clock.now().timestamp())
        digest = hashlib.sha256(str(token).encode("utf-8")).digest()
        text = certify(
            self._authority.private,
            key.public_line,
            ca_passphrase=self._authority.passphrase,
            serial=int.from_bytes(digest[:8], "big") >> 1,
            key_id=f"{self._account.label}-{token[:12]}",
            principals=_principals(old, self._account.user),
            valid_after=now - _BACKDATED_SECONDS,
            valid_before=now + self._authority.validity_seconds,
            critical_options={} if old is None else old.critical_options,
            extensions=dict.fromkeys(PLAIN_KEY_EXTENSIONS, b"") if old is None else old.extensions,
        )
        return {**values, CERTIFICATE: SecretValue.from_text(text)}

    def apply(self, current: Values | None, pending: Values) -> None:
        """Do nothing: the server trusts whom the CA vouches for."""

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Log in with *pending*; raises as `Account.check`."""
        return self._account.check(current, pending)

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Revoke *pending*; without a list of revoked keys it works until it expires."""
        path = self._authority.revoked_keys
        if path is not None:
            self._account.revoke_key(path, pending, session=current or pending, point="withdraw")

    def retire(self, current: Values, old: Values) -> None:
        """
        Revoke the old key, or take its line out where it has no certificate.

        Raises:
            NotYet: There is no list of revoked keys, and the certificate has not expired.
            VerificationFailed: *current* does not log in, so the old one is let be.
        """
        require_another(current, old)
        self._account.require(current, role="new")
        certificate = _certificate_of(old)
        if certificate is None:
            self._account.remove_key(old, session=current, point="retire")
        elif self._authority.revoked_keys is not None:
            path = self._authority.revoked_keys
            self._account.revoke_key(path, old, session=current, point="retire")
        else:
            self._require_expired(certificate)

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """Log in with *old*, by its certificate and without, and be refused both times."""
        login = self._account.login(old)
        logins = [login, Login(login.user, login.key)] if login.certificate else [login]
        return self._account.prove_refused(logins, current=current)

    def probe(self, values: Values) -> Evidence:
        """Log in with *values*; raises as `Account.check`."""
        return self._account.check(None, values)

    def counted_on(self, values: Values) -> SecretValue | None:  # noqa: ARG002 - the port's
        """Return the account: a server may turn away who failed there too often."""
        return SecretValue.from_text(self._account.user)

    def rehearsal(self) -> RotationKind | None:
        """Return the steps for a certificate of minutes; None without a list of revoked keys."""
        if self._authority.revoked_keys is None:
            return None
        authority = replace(self._authority, validity_seconds=_REHEARSED_SECONDS)
        return _Rehearsed(
            replace(self._account, label=f"{self._account.label}-rehearsal"),
            authority,
            fields=self._fields,
            algorithm=self._algorithm,
            clock=self._clock,
            entropy=self._entropy,
        )

    def _require_expired(self, certificate: Certificate) -> None:
        left = certificate.valid_before - int(self._clock.now().timestamp())
        if left < 0:
            return
        raise NotYet(
            f"the old certificate, serial {certificate.serial}, is accepted until it expires,"
            f" in {left} s",
            person=False,
            again_seconds=left + 1,
            hint="to end it sooner, set `RevokedKeys` in the server's sshd_config to a text file,"
            " and `revoked_keys` in the secret's target to its path",
        )


class _Rehearsed(Certified):
    """The same for a key that nobody keeps: once it is proven dead, its line goes again."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """Be refused, then take the key off the list: its private half exists nowhere else."""
        evidence = super().prove_dead(old, current=current)
        path = self._authority.revoked_keys
        if path is not None:
            self._account.clear_key(path, old, session=current, point="rehearse")
        return evidence


def _certificate_of(values: Values | None) -> Certificate | None:
    found = None if values is None else values.get(CERTIFICATE)
    return read_certificate(found.reveal_text()) if found else None


def _principals(old: Certificate | None, user: str) -> Sequence[str]:
    return old.principals if old is not None and user in old.principals else (user,)
