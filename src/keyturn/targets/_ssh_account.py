"""One account at one SSH server: what a version of the secret logs in as, and what lets it in."""

from __future__ import annotations

import contextlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName
from keyturn.core.model import Values
from keyturn.core.ports import Evidence
from keyturn.core.value import SecretValue
from keyturn.crypto.sshkeys import SshKey, new_ssh_key, read_ssh_key
from keyturn.errors import Rejected, Unavailable, VerificationFailed
from keyturn.targets import _ssh_remote as remote
from keyturn.targets._ssh_connection import (
    LOGIN_REFUSED,
    MORE_WANTED,
    Login,
    SshServerAddress,
    log_in,
    opens_session,
)
from keyturn.targets._ssh_files import FILE_REFUSED, blob_of, line_with, with_line, without_key

if TYPE_CHECKING:
    import paramiko

__all__ = ["CERTIFICATE", "PASSPHRASE", "PRIVATE_KEY", "PUBLIC_KEY", "Account", "key_of"]

PRIVATE_KEY = FieldName("private_key")
PUBLIC_KEY = FieldName("public_key")
PASSPHRASE = FieldName("passphrase")
CERTIFICATE = FieldName("certificate")

_PASSPHRASE_BYTES = 24


@dataclass(frozen=True, slots=True)
class Account:
    """
    One account at one server.

    Args:
        authorized_keys: Its path there, as SFTP takes it.
        admin: Who changes files; None for the account itself.
        label: Tells a person whose keys these are: in comments and in file names.
        mark: Names the file that is written beside the one that changes.
    """

    address: SshServerAddress
    user: str
    authorized_keys: str
    admin: Login | None
    label: str
    mark: str

    def __str__(self) -> str:
        return f"{self.user}@{self.address}"

    def new_values(
        self, fields: Sequence[FieldName], algorithm: str, entropy: Entropy
    ) -> tuple[dict[FieldName, SecretValue], SshKey]:
        """Return a new key pair as the declared *fields* of a version, and the pair itself."""
        passphrase = None
        if PASSPHRASE in fields:
            passphrase = SecretValue(urlsafe_b64encode(entropy.random_bytes(_PASSPHRASE_BYTES)))
        kept, key = new_ssh_key(algorithm, passphrase=passphrase)
        values = {PRIVATE_KEY: kept}
        if passphrase is not None:
            values[PASSPHRASE] = passphrase
        if PUBLIC_KEY in fields:
            values[PUBLIC_KEY] = SecretValue.from_text(f"{key.public_line} {self.label}")
        return values, key

    def login(self, values: Values) -> Login:
        """Return what *values* log in by: the certificate where they have one."""
        certificate = values.get(CERTIFICATE)
        text = certificate.reveal_text().strip() if certificate else None
        return Login(self.user, key_of(values), text)

    def works(self, login: Login) -> bool:
        """Return whether *login* is let in; raises as `log_in` for all but a refusal."""
        try:
            with log_in(self.address, login):
                return True
        except Rejected as error:
            if error.code != LOGIN_REFUSED:
                raise
            return False

    def require(self, values: Values, *, role: str) -> None:
        """
        Log in with *values*.

        Raises:
            VerificationFailed: They are refused.
        """
        if not self.works(self.login(values)):
            raise VerificationFailed(
                f"the {role} key does not log in as `{self}`",
                hint="see that the key, or its CA, stands in the file that the server's sshd reads",
                code=LOGIN_REFUSED,
            )

    def require_first(self, values: Values) -> None:
        """
        Log in with a first key, that a person has put in place.

        Raises:
            Rejected: Nobody has.
        """
        if not self.works(self.login(values)):
            raise Rejected(
                f"nobody can put the first key of `{self}` in place",
                hint="name a login that may as `admin` in the secret's target, or make the first"
                " key by hand and give it to Keyturn: keyturn set",
                code="target.denied",
            )

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Log in with *pending* and open a session, if *current* can.

        Raises:
            VerificationFailed: It is refused, or may do less.
        """
        self.require(pending, role="new")
        if not self._opens(pending) and (current is None or self._opens(current)):
            raise VerificationFailed(
                f"the new key logs in as `{self}`, and may not open a session",
                hint="compare the options of both lines in the server's authorized_keys",
                code="target.denied",
            )
        return Evidence("login accepted", f"as `{self}`")

    def prove_refused(self, logins: Sequence[Login], *, current: Values | None) -> Evidence:
        """
        Try each of *logins* and be refused, by a server that lets *current* in.

        Raises:
            VerificationFailed: One is let in still.
            Unavailable: *current* is refused too, so a refusal would prove nothing.
        """
        if current is not None and not self.works(self.login(current)):
            raise Unavailable(
                f"`{self}` refuses the key in use as well, so that nothing is proven",
                hint="see the server's log; then run the command again",
                code="target.unavailable",
            )
        if any(map(self._let_in, logins)):
            raise VerificationFailed(
                f"the old key still logs in as `{self}`",
                hint="see which file its sshd reads: `sshd -T | grep -i keys` on the server",
                code="target.still-works",
            )
        return Evidence("login refused", f"as `{self}`, by the server itself")

    def add_key(self, values: Values, *, like: Values | None, point: str) -> None:
        """
        Let the key of *values* in, with the options of the line of *like*.

        Raises:
            Rejected: The file has no line for *like*, or may not be changed.
        """
        line = key_of(values).public_line
        model = None if like is None else blob_of(key_of(like).public_line)

        def change(content: bytes) -> bytes:
            found = None if model is None else line_with(content, model)
            if model is not None and found is None and not line_with(content, blob_of(line)):
                raise self._not_there()
            return with_line(content, line, like=found, comment=self.label)

        with self._session(like, values) as (transport, _):
            self._edit(transport, self.authorized_keys, change, point=point, create=like is None)

    def remove_key(self, values: Values, *, session: Values | None, point: str) -> None:
        """
        Let the key of *values* in no more.

        Raises:
            Rejected: It is the very key that would have to do it.
        """
        blob = blob_of(key_of(values).public_line)
        with self._session(session) as (transport, login):
            if blob_of(login.key.public_line) == blob and login.certificate is None:
                raise Rejected(
                    f"the key to be removed at `{self}` is the one that administers it",
                    hint="give the secret's `admin` a key of its own",
                    code="target.own-key",
                )
            self._edit(
                transport,
                self.authorized_keys,
                lambda content: without_key(content, blob),
                point=point,
            )

    def revoke_key(self, path: str, values: Values, *, session: Values | None, point: str) -> None:
        """Put the key of *values* on the server's list of revoked keys; raises as `add_key`."""
        line = key_of(values).public_line
        with self._session(session) as (transport, _):
            self._edit(
                transport,
                path,
                lambda content: with_line(content, line, comment=self.label),
                point=point,
            )

    def clear_key(self, path: str, values: Values, *, session: Values | None, point: str) -> None:
        """Take the key of *values* off the server's list of revoked keys."""
        blob = blob_of(key_of(values).public_line)
        with self._session(session) as (transport, _):
            self._edit(transport, path, lambda content: without_key(content, blob), point=point)

    def _edit(
        self,
        transport: paramiko.Transport,
        path: str,
        change: Callable[[bytes], bytes],
        *,
        point: str,
        create: bool = False,
    ) -> None:
        remote.edit(transport, path, change, point=point, mark=self.mark, create=create)

    @contextlib.contextmanager
    def _session(self, *candidates: Values | None) -> Iterator[tuple[paramiko.Transport, Login]]:
        """Log in as the administrator, else with the first of *candidates* that is let in."""
        logins = [self.admin] if self.admin else []
        if not logins:
            logins = [self.login(values) for values in candidates if values is not None]
        with contextlib.ExitStack() as stack:
            yield self._first(stack, logins)

    def _first(
        self, stack: contextlib.ExitStack, logins: Sequence[Login]
    ) -> tuple[paramiko.Transport, Login]:
        refused: Rejected | None = None
        for login in logins:
            try:
                return stack.enter_context(log_in(self.address, login)), login
            except Rejected as error:
                if error.code != LOGIN_REFUSED:
                    raise
                refused = error
        raise refused or self._not_there()

    def _opens(self, values: Values) -> bool:
        with log_in(self.address, self.login(values)) as transport:
            return opens_session(transport)

    def _let_in(self, login: Login) -> bool:
        try:
            return self.works(login)
        except Rejected as error:
            # Taken, as the first of several things that the server wants.
            if error.code == MORE_WANTED:
                return True
            raise Unavailable(error.message, hint=error.hint, code="target.unavailable") from error

    def _not_there(self) -> Rejected:
        return Rejected(
            f"`{self.authorized_keys}` of `{self}` has no line for the key in use",
            hint="set `authorized_keys` in the secret's target to the file that its sshd reads for"
            " this account, or put a line for the key into it",
            code=FILE_REFUSED,
        )


def key_of(values: Values) -> SshKey:
    """
    Return the key pair of a version.

    Raises:
        VerificationFailed: There is none, or its passphrase does not open it.
    """
    private = values.get(PRIVATE_KEY)
    if private is None:
        raise VerificationFailed("the version has no field `private_key`", code="ssh.key")
    return read_ssh_key(private, values.get(PASSPHRASE))
