"""What a person must know of each kind before rotating it at three in the morning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from keyturn.manifest import Secret, SecretKind, Strategy, target_spec

__all__ = ["Facts", "facts_of", "fetched", "hand_reason", "overlap", "undescribed"]


@dataclass(frozen=True, slots=True)
class Facts:
    """
    One secret's kind, in words.

    Args:
        outage: While it is rotated, some uses are refused; None where that is for others to say.
        impact: What users and programs notice.
        new: Who makes the new one, and how it is checked.
        end: How the old one ends, and how that is proven.
        before: What must be at hand.
        leaked: What has to be done besides rotating, where somebody else has it.
    """

    outage: bool | None
    impact: str
    new: str
    end: str
    before: Sequence[str] = ()
    leaked: Sequence[str] = ()


_TWO = "Old and new work side by side, so nothing is refused."

_FACTS: Mapping[SecretKind, Facts] = {
    SecretKind.POSTGRES_LOGIN: Facts(
        outage=False,
        impact="Two logins take turns: the new one is let in before the old one is shut out.",
        new="Keyturn makes the password, sets it, logs in with it and compares its rights.",
        end="The old login may no longer log in, and its sessions are ended. A login with it is "
        "tried and must be refused.",
        before=("The database answers, and no migration runs.",),
        leaked=(
            "Look at the database's own log for logins from places that you do not know.",
            "Whoever was in may have read everything that this login can read.",
        ),
    ),
    SecretKind.REDIS_LOGIN: Facts(
        outage=False,
        impact="The user takes both passwords for a while. When the old one ends, open "
        "connections are closed once and come back with the new one.",
        new="Keyturn makes the password, adds it, and logs in with it.",
        end="The old password is taken away and written out of the server's file. A login with "
        "it is tried and must be refused.",
        leaked=("Look for clients and keys that you do not know: CLIENT LIST.",),
    ),
    SecretKind.JWT_SIGNING_KEY: Facts(
        outage=False,
        impact="The new key is published before anything is signed with it, and the old one goes "
        "on verifying until its last token has run out. Nobody is logged out.",
        new="Keyturn makes the pair, signs with it, and verifies with what is published.",
        end="The old key is no longer published. A token of it must be refused.",
        leaked=(
            "Whoever has the key can make a token for any user.",
            "With --now every token of the old key ends, and users log in again.",
        ),
    ),
    SecretKind.SESSION_SECRET: Facts(
        outage=True,
        impact="Sessions of the old secret end: users log in again.",
        new="Keyturn makes it.",
        end="No program is given the old one any more.",
        leaked=("Whoever has it can forge sessions. Look for sessions that you cannot explain.",),
    ),
    SecretKind.ENCRYPTION_KEY: Facts(
        outage=False,
        impact="The old key stays in the ring until nothing is encrypted with it any more.",
        new="Keyturn makes the key; your own program encrypts the stored rows anew with it.",
        end="It leaves the ring when the program reports no row that still needs it.",
        before=(
            "A fresh backup of the database. Without the old key, what it encrypted is lost.",
            "Time: every row is read and written once.",
        ),
        leaked=(
            "What was encrypted with it counts as read, and a new key does not undo that.",
            "Make anew what was inside too, such as the seeds of second factors.",
        ),
    ),
    SecretKind.OPENAI_KEY: Facts(
        outage=False,
        impact=_TWO,
        new="Keyturn has OpenAI make a key for the service account, and calls with it.",
        end="The old key is deleted at OpenAI. A call with it must be refused.",
        leaked=("Look at the usage page of OpenAI for what you did not ask, and set a limit.",),
    ),
    SecretKind.SENDGRID_KEY: Facts(
        outage=False,
        impact=_TWO,
        new="Keyturn has SendGrid make a key with the same scopes, and calls with it.",
        end="The old key is deleted at SendGrid. A call with it must be refused.",
        leaked=("Look at SendGrid's activity for mail that you did not send.",),
    ),
    SecretKind.STRIPE_KEY: Facts(
        outage=False,
        impact=_TWO,
        new="A person makes it in Stripe's dashboard; Keyturn asks for it and calls with it.",
        end="A person deletes the old key in the dashboard. A call with it must be refused.",
        before=("Somebody who may make API keys in Stripe's dashboard, signed in.",),
        leaked=("Look at Stripe's request log for calls, refunds and payouts that are not yours.",),
    ),
    SecretKind.STRIPE_WEBHOOK_SECRET: Facts(
        outage=False,
        impact="A second endpoint with its own secret is made. The program must accept both.",
        new="Keyturn makes the endpoint at Stripe, and tries a signature.",
        end="The old endpoint is deleted at Stripe.",
        leaked=(
            "Whoever has it can send you events as Stripe. Compare events with the dashboard.",
        ),
    ),
    SecretKind.TWITCH_APP: Facts(
        outage=True,
        impact="Twitch ends the old secret when the new one is made. From that moment until the "
        "programs have the new one, logins through Twitch fail. Tokens held go on working.",
        new='A person presses "New Secret" in the developer console; Keyturn takes and tries it.',
        end="The old secret is dead at once. Keyturn tries it, and Twitch must refuse it.",
        before=(
            "Somebody who owns the application in Twitch's developer console, signed in.",
            'Start the command first. Press "New Secret" only when it asks for the value.',
        ),
        leaked=("Look at the application's use in the console. There is no way back.",),
    ),
    SecretKind.VAULT_APPROLE: Facts(
        outage=False,
        impact=_TWO,
        new="Keyturn has the server make a secret-id, and logs in with it.",
        end="The old secret-id is destroyed. A login with it must be refused.",
        leaked=("Look at the server's audit log for what was read with this role.",),
    ),
    SecretKind.AWS_ACCESS_KEY: Facts(
        outage=False,
        impact=_TWO,
        new="Keyturn has AWS make a second key, and calls with it.",
        end="The old key is made inactive, waited for, and deleted. A call must be refused.",
        leaked=("Look at CloudTrail for calls with the old key, and for users that are new.",),
    ),
    SecretKind.SSH_KEY: Facts(
        outage=False,
        impact=_TWO,
        new="Keyturn makes a key, lets it in, and logs in with it.",
        end="The old key is taken out or revoked. A login with it must be refused.",
        leaked=("Look at the machine's log for logins with the old key.",),
    ),
    SecretKind.GENERATED: Facts(
        outage=None,
        impact="Only what Keyturn delivers to changes. A server that checks the value is told by "
        "you: between its change and the programs' reload, uses are refused.",
        new="Keyturn makes it.",
        end="No program is given the old one any more. Where a server checks it, you end it there.",
        before=("If a server checks this value: access to it, to set the new one.",),
    ),
    SecretKind.GUIDED: Facts(
        outage=None,
        impact="It depends on whoever issues it: ask whether old and new work side by side.",
        new="A person fetches it; Keyturn asks for it.",
        end="A person ends the old one where it was issued. Keyturn cannot try it.",
        before=("Access to where it is issued.",),
    ),
    SecretKind.COMMAND: Facts(
        outage=None,
        impact="It depends on the project's own program, named in keyturn.toml.",
        new="The program makes it and tries it.",
        end="The program ends the old one and tries it.",
    ),
    SecretKind.EXTERNAL: Facts(
        outage=None,
        impact="It depends on the plug-in named in keyturn.toml.",
        new="The plug-in makes it and tries it.",
        end="The plug-in ends the old one and tries it.",
    ),
    SecretKind.HUMAN_PASSWORD: Facts(
        outage=True,
        impact="Whoever knows it must learn the new one.",
        new="A person chooses it. No calendar asks for a change; a leak does.",
        end="It ends where it is used, by whoever runs that.",
    ),
}

_IN_PLACE = (
    "There is one of it at a time. Whoever uses the old one after the change and before the "
    "reload is refused."
)
_ALL_TOKENS_END = (
    "The program knows one key only. Tokens of the old key end: users log in again, or their "
    "programs fetch new tokens."
)
# A person fetches their values.
_BY_HAND = frozenset({SecretKind.GUIDED, SecretKind.TWITCH_APP})


def facts_of(secret: Secret) -> Facts:
    """Return what holds for *secret*, its strategy regarded."""
    found = _FACTS[secret.kind]
    if secret.strategy is Strategy.IN_PLACE:
        return _changed(found, outage=True, impact=_IN_PLACE)
    if secret.kind is SecretKind.JWT_SIGNING_KEY and "jwks" not in secret.fields:
        return _changed(found, outage=True, impact=_ALL_TOKENS_END)
    if secret.strategy is Strategy.OVERLAP:
        return _changed(found, outage=False, impact=_TWO)
    if secret.strategy is Strategy.LIST:
        return _changed(
            found,
            outage=False,
            impact="The program accepts a list of secrets, the newest first. Nobody is logged out.",
        )
    return found


def _changed(facts: Facts, *, outage: bool, impact: str) -> Facts:
    return Facts(outage, impact, facts.new, facts.end, facts.before, facts.leaked)


def overlap(secret: Secret) -> timedelta:
    """Return how long the old one works beside the new one."""
    if secret.kind is SecretKind.TWITCH_APP or secret.strategy is Strategy.IN_PLACE:
        return timedelta(0)
    return secret.grace


def hand_reason(secret: Secret) -> str | None:
    """Return why the schedule does not rotate *secret* by itself; None where it does."""
    if not secret.spec.rotates:
        return "a person chooses it"
    if fetched(secret):
        return "a person fetches the new value"
    lacking = undescribed(secret)
    if lacking:
        return f"keyturn.toml does not say what it opens: {', '.join(lacking)}"
    if not secret.automatic:
        return "keyturn.toml says `automatic = false`"
    return None if secret.max_age is not None else "it has no `max_age`"


def fetched(secret: Secret) -> bool:
    """Tell whether a person fetches the new value, and ends the old one."""
    stripe = secret.kind is SecretKind.STRIPE_KEY and not secret.target.get("preview")
    return stripe or secret.kind in _BY_HAND


def undescribed(secret: Secret) -> list[str]:
    """Return what keyturn.toml must say before *secret* can be rotated."""
    if not secret.spec.rotates or fetched(secret):
        return []
    return [key for key in target_spec(secret.kind).required if key not in secret.target]
