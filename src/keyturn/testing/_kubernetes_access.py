"""Who asks a Kubernetes API server, and what role-based access control lets them do."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.testing._kubernetes_status import Refused, failure
from keyturn.testing.simulators._server import Reply

__all__ = ["ANONYMOUS", "Access", "Ask", "Identity", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule of a role that is bound to somebody.

    Args:
        resources: Such as `secrets` or `serviceaccounts/token`; `*` is all.
        names: Only these objects (`resourceNames`); empty for any.
        namespace: Where it holds; None for a cluster role, which holds everywhere.
    """

    verbs: Collection[str]
    resources: Collection[str] = ("secrets",)
    names: Collection[str] = ()
    namespace: str | None = "default"
    group: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants to do; *namespace* is empty for all of them."""

    verb: str
    resource: str
    namespace: str
    name: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody the server knows."""

    user: str
    groups: tuple[str, ...]
    rules: tuple[Rule, ...] = ()

    def may(self, ask: Ask) -> bool:
        """Tell whether a rule allows it."""
        return "system:masters" in self.groups or any(_allows(rule, ask) for rule in self.rules)

    def require(self, ask: Ask) -> None:
        """
        Refuse what no rule allows.

        Raises:
            Refused: 403, in the server's words.
        """
        if self.may(ask):
            return
        named = f' "{ask.name}"' if ask.name else ""
        where = f'in the namespace "{ask.namespace}"' if ask.namespace else "at the cluster scope"
        full = ask.resource.partition("/")[0] + (f".{ask.group}" if ask.group else "")
        message = (
            f'{full}{named} is forbidden: User "{self.user}" cannot {ask.verb} resource'
            f' "{ask.resource}" in API group "{ask.group}" {where}'
        )
        details: dict[str, object] = {"kind": ask.resource.partition("/")[0]}
        if ask.name:
            details["name"] = ask.name
        raise Refused(Reply(403, failure(403, message, details=details)))


ANONYMOUS = Identity("system:anonymous", ("system:unauthenticated",))


def _allows(rule: Rule, ask: Ask) -> bool:
    def has(some: Collection[str], one: str) -> bool:
        return "*" in some or one in some

    return (
        has(rule.verbs, ask.verb)
        and has(rule.resources, ask.resource)
        and rule.group in {"*", ask.group}
        and (not rule.names or ask.name in rule.names)
        and rule.namespace in {None, ask.namespace}
    )


class Access:
    """The tokens and accounts of one server."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._rules: dict[str, tuple[Rule, ...]] = {}
        self._tokens: dict[str, tuple[str, tuple[str, ...], datetime | None]] = {}

    def bind(self, user: str, *rules: Rule) -> None:
        """Let *user* do what *rules* say, and nothing that was bound before."""
        self._rules[user] = rules

    def issue(self, user: str, groups: tuple[str, ...], seconds: int | None) -> str:
        """Return a new token of *user*, valid for *seconds*; None for as long as it stands."""
        until = None if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        claims: dict[str, object] = {"sub": user, "jti": self._entropy.random_bytes(8).hex()}
        if until is not None:
            claims["exp"] = int(until.timestamp())
        # In the form of a token of the real server; the signature is random.
        token = ".".join(
            base64.urlsafe_b64encode(part).rstrip(b"=").decode()
            for part in (
                b'{"alg":"RS256"}',
                json.dumps(claims).encode(),
                self._entropy.random_bytes(32),
            )
        )
        self._tokens[token] = (user, groups, until)
        return token

    def revoke(self, token: str) -> None:
        """Forget *token*."""
        self._tokens.pop(token, None)

    def who(self, token: str) -> Identity | None:
        """Return whose *token* is; None for one that is unknown or over."""
        found = self._tokens.get(token)
        if found is None:
            return None
        user, groups, until = found
        if until is not None and self._clock.now() >= until:
            return None
        return self.known(user, groups)

    def known(self, user: str, groups: tuple[str, ...]) -> Identity:
        """Return *user*, who proved it otherwise, such as by a certificate."""
        return Identity(user, groups, self._rules.get(user, ()))
