"""What the kind of AppRole secret-ids asks of Vault or OpenBao, one request each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keyturn._internal import failpoints
from keyturn.core.clock import Clock
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, Unavailable, UsageError
from keyturn.targets._http import DENIED, LOGIN_REFUSED, Answer, Login, Vendor, segment

__all__ = ["SecretId", "Session", "Vault"]

# A request that was not looked at: sealed, or a standby that has nobody to pass it on to.
_NOT_NOW = frozenset({472, 473, 503})
_REDIRECT = 307
_BAD_REQUEST = 400
_NO_CONTENT = 204
_FORBIDDEN = 403
_NOT_FOUND = 404
# What a rotation does below the role, and the capability that each takes.
_NEEDED = (
    ("", ("read",)),
    ("/secret-id", ("list", "update")),
    ("/secret-id/lookup", ("update",)),
    ("/secret-id-accessor/lookup", ("update",)),
    ("/secret-id-accessor/destroy", ("update",)),
)
# What a secret-id that is not accepted is answered with; older servers said the second.
_REFUSALS = ("invalid role or secret id", "invalid secret id")
_ACCESSOR_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class SecretId:
    """
    What the server keeps of a secret-id.

    Args:
        ttl_seconds: How long it lives; 0 for ever.
        uses: How many logins it has left; 0 for any number.
    """

    accessor: str
    metadata: Mapping[str, str]
    ttl_seconds: int
    uses: int


class Vault:
    """
    One server and one role of it.

    Args:
        ca_file: Certificates to verify the server with; the system's where None.
    """

    def __init__(
        self,
        address: str,
        *,
        mount: str,
        role: str,
        namespace: str | None,
        ca_file: str | None,
        clock: Clock,
    ) -> None:
        self._api = _api(address, clock, ca_file)
        self.role = role
        self.mount = mount
        self._path = "/v1/auth/" + "/".join(segment(part) for part in mount.split("/"))
        self.role_path = f"{self._path}/role/{segment(role)}"
        self._headers = {"X-Vault-Request": "true"}
        if namespace is not None:
            self._headers["X-Vault-Namespace"] = namespace

    def send(
        self,
        method: str,
        path: str,
        *,
        login: Login | None,
        body: Mapping[str, object] | None = None,
        changing: bool = False,
        expect: Collection[int] = (),
        right: str | None = None,
    ) -> Answer:
        """
        Send one request.

        Args:
            right: The capability on *path* that it takes, for the hint.

        Raises:
            Unavailable: No answer, or the server is sealed or on standby.
            OutcomeUnknown: No answer to a change.
            Rejected: It answered no.
        """
        answer = self._api.request(
            method,
            path,
            login=login,
            json_body=body,
            headers=self._headers,
            changing=changing,
            expect={*expect, *_NOT_NOW, _REDIRECT},
            hint=None if right is None else _policy(path, right),
        )
        if answer.status in _NOT_NOW:
            raise Unavailable(
                f"Vault does not serve now ({answer.status}): {answer.words()}",
                hint="unseal it, or wait until a node is active, then run the command again",
                code="target.unavailable",
            )
        if answer.status == _REDIRECT:
            raise Rejected(
                "Vault sends us to another node, which is not followed",
                hint="name the active node in `address` of the secret's target",
                code="target.rejected",
            )
        return answer

    def log_in(self, role_id: SecretValue, secret_id: SecretValue, whose: str) -> Session:
        """
        Log in by *role_id* and *secret_id*; the token that this makes is the caller's to end.

        Raises:
            Rejected: They are refused (code `target.login-refused`).
            Unavailable: No answer.
        """
        body = {"role_id": role_id.reveal_text(), "secret_id": secret_id.reveal_text()}
        # A token whose answer was lost ends by itself: this counts as no change.
        answer = self.send(
            "POST", f"{self._path}/login", login=None, body=body, expect={_BAD_REQUEST}
        )
        if answer.status == _BAD_REQUEST:
            raise self._refused(answer, whose)
        token = Login.bearer(answer.secret("auth", "client_token"), f"the token of {whose}")
        policies = answer.at("auth", "policies")
        names = policies if isinstance(policies, list) else []
        return Session(self, token, frozenset(str(name) for name in names), minted=True)

    @contextlib.contextmanager
    def logged_in(
        self, role_id: SecretValue, secret_id: SecretValue, whose: str
    ) -> Iterator[Session]:
        """Log in as `log_in` does, and end the token afterwards."""
        session = self.log_in(role_id, secret_id, whose)
        try:
            yield session
        finally:
            session.end()

    def _refused(self, answer: Answer, whose: str) -> KeyturnError:
        words = answer.words()
        if any(part in words.lower() for part in _REFUSALS):
            return Rejected(
                f"Vault refused the login of {whose}: {words}",
                hint=f"look at the role: bao list {self.role_path.removeprefix('/v1/')}/secret-id",
                code=LOGIN_REFUSED,
            )
        return Rejected(f"Vault did not try the login of {whose}: {words}", code="target.rejected")


class Session:
    """
    A token at work on the role.

    Args:
        policies: What the token has.
        minted: We made it, so we end it.
    """

    def __init__(
        self, vault: Vault, token: Login, policies: frozenset[str], *, minted: bool
    ) -> None:
        self._vault = vault
        self._token = token
        self.policies = policies
        self._minted = minted

    def end(self) -> None:
        """Revoke the token, if we made it; one that cannot be revoked ends by its TTL."""
        if not self._minted:
            return
        path = "/v1/auth/token/revoke-self"
        # Best effort: the token is short-lived, and what was done with it is done.
        with contextlib.suppress(KeyturnError):
            self._vault.send("POST", path, login=self._token, expect={_BAD_REQUEST})

    def require_rights(self) -> None:
        """
        Return where the token may do all that a rotation takes, as far as it may ask.

        Raises:
            Rejected: It may not; the message names every path and capability.
        """
        paths = {f"{self._vault.role_path}{end}"[4:]: need for end, need in _NEEDED}
        answer = self._vault.send(
            "POST",
            "/v1/sys/capabilities-self",
            login=self._token,
            body={"paths": list(paths)},
            expect={_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND},
        )
        if not answer.succeeded:
            # A policy may forbid even this; then each request tells.
            return
        lacking = {
            path: [right for right in need if right not in _rights(answer, path)]
            for path, need in paths.items()
        }
        rules = [_rule(path, rights) for path, rights in lacking.items() if rights]
        if not rules:
            return
        listed = ", ".join(f"`{path}` ({' '.join(r)})" for path, r in lacking.items() if r)
        raise Rejected(
            f"{self._token.whose} may not do all that a rotation takes: {listed}",
            hint=f"its policy needs: {' '.join(rules)}",
            code=DENIED,
        )

    def role(self) -> Mapping[str, object]:
        """
        Return how the role is set up.

        Raises:
            Rejected: There is no such role.
        """
        path = self._vault.role_path
        answer = self._vault.send("GET", path, login=self._token, expect={_NOT_FOUND}, right="read")
        found = answer.at("data")
        if answer.status == _NOT_FOUND or not isinstance(found, dict):
            raise Rejected(
                f"there is no role `{self._vault.role}` at the AppRole mount `{self._vault.mount}`",
                hint="check role, mount and namespace in the secret's target",
                code="target.role",
            )
        return found

    def role_id(self) -> SecretValue:
        """Return the role's id."""
        path = f"{self._vault.role_path}/role-id"
        answer = self._vault.send("GET", path, login=self._token, right="read")
        return answer.secret("data", "role_id")

    def accessors(self) -> list[str]:
        """
        Return the accessors of the role's secret-ids.

        Raises:
            Rejected: There are more than can be looked through.
        """
        path = f"{self._vault.role_path}/secret-id"
        answer = self._vault.send(
            "LIST", path, login=self._token, expect={_NOT_FOUND}, right="list"
        )
        keys = answer.at("data", "keys")
        found = [str(key) for key in keys] if isinstance(keys, list) else []
        if len(found) > _ACCESSOR_LIMIT:
            raise Rejected(
                f"the role `{self._vault.role}` has {len(found)} secret-ids, too many to look"
                " through",
                hint="give the role a secret_id_ttl, and destroy those that nobody uses",
                code="target.limit",
            )
        return found

    def look_up(self, accessor: str) -> SecretId | None:
        """Return what is known of the secret-id of *accessor*; None where there is none."""
        path = f"{self._vault.role_path}/secret-id-accessor/lookup"
        body = {"secret_id_accessor": accessor}
        answer = self._vault.send(
            "POST", path, login=self._token, body=body, expect={_NOT_FOUND}, right="update"
        )
        return None if answer.status == _NOT_FOUND else _secret_id(answer)

    def look_up_value(self, secret_id: SecretValue) -> SecretId | None:
        """Return what is known of *secret_id*; None where the role has no such."""
        path = f"{self._vault.role_path}/secret-id/lookup"
        body = {"secret_id": secret_id.reveal_text()}
        answer = self._vault.send(
            "POST", path, login=self._token, body=body, expect={_NOT_FOUND}, right="update"
        )
        return None if answer.status in {_NO_CONTENT, _NOT_FOUND} else _secret_id(answer)

    def create(self, metadata: Mapping[str, str]) -> tuple[SecretValue, SecretId]:
        """
        Make a secret-id.

        Raises:
            OutcomeUnknown: The answer was lost; there may be one that nobody has.
        """
        path = f"{self._vault.role_path}/secret-id"
        body = {"metadata": json.dumps(dict(metadata))}
        failpoints.hit("approle.create.call")
        answer = self._vault.send(
            "POST", path, login=self._token, body=body, changing=True, right="update"
        )
        failpoints.hit("approle.create.called")
        return answer.secret("data", "secret_id"), _secret_id(answer)

    def destroy(self, accessor: str, *, point: str) -> None:
        """
        End the secret-id of *accessor*; one that is not there is fine.

        Args:
            point: Names the failpoints `approle.POINT.call` and `.called`.
        """
        # To destroy one that is not there is an internal error of the server.
        if self.look_up(accessor) is None:
            return
        path = f"{self._vault.role_path}/secret-id-accessor/destroy"
        body = {"secret_id_accessor": accessor}
        failpoints.hit(f"approle.{point}.call")
        self._vault.send("POST", path, login=self._token, body=body, changing=True, right="update")
        failpoints.hit(f"approle.{point}.called")


def _api(address: str, clock: Clock, ca_file: str | None) -> Vendor:
    try:
        return Vendor("Vault", address, clock=clock, ca_file=ca_file)
    except UsageError as error:
        if error.code != "rotation.target":
            raise
        raise UsageError(
            error.message.replace("base_url", "address"),
            hint='write address = "https://HOST:8200"',
            code=error.code,
        ) from None


def _secret_id(answer: Answer) -> SecretId:
    metadata = answer.at("data", "metadata")
    known = metadata if isinstance(metadata, dict) else {}
    return SecretId(
        answer.text("data", "secret_id_accessor"),
        {str(key): str(value) for key, value in known.items()},
        _number(answer.at("data", "secret_id_ttl")),
        _number(answer.at("data", "secret_id_num_uses")),
    )


def _number(found: object) -> int:
    return found if isinstance(found, int) else 0


def _policy(path: str, right: str) -> str:
    return f"its policy needs: {_rule(path.removeprefix('/v1/'), [right])}"


def _rule(path: str, rights: Sequence[str]) -> str:
    listed = ", ".join(f'"{right}"' for right in rights)
    return f'path "{path}" {{ capabilities = [{listed}] }}'


def _rights(answer: Answer, path: str) -> Collection[str]:
    """Return what *answer* says of *path*; `root` may do everything."""
    found = answer.at("data", path)
    if not isinstance(found, list):
        found = answer.at(path)
    rights = {str(right) for right in found} if isinstance(found, list) else set()
    return {"read", "list", "update"} if "root" in rights else rights
