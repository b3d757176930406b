"""
AWS access keys: a second one of the same IAM user, until the first is switched off and deleted.

A user has two keys at most, and they have no names. So before one is made, a tag of the
user notes which there were. Where the answer that had the new one was lost, it is the
one key that the note does not know: it is deleted if it was made when the note was
written and was never used. In any other case a person is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.ids import FieldName, Token
from keyturn.core.model import Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import NotYet, Rejected, UsageError, VerificationFailed
from keyturn.manifest import format_duration, parse_duration
from keyturn.targets import _target_table as table
from keyturn.targets._aws_api import LIMIT, LOGIN_REFUSED, AwsKey, AwsTarget
from keyturn.targets._aws_keys import (
    LIMIT_KEYS,
    Identity,
    KeyFacts,
    Note,
    UserKeys,
    identity,
    lost_key,
)
from keyturn.targets._base import OnePhase
from keyturn.targets._http import until

__all__ = ["KEY_ID", "SECRET_KEY", "AwsAccessKey", "build"]

KEY_ID = FieldName("access_key_id")
SECRET_KEY = FieldName("secret_access_key")

_WAIT = "1h"
# Until a key that was just made is in the list.
_LISTED_SECONDS = 8.0


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of a secret of kind `aws-access-key`.

    Raises:
        UsageError: The target does not say enough, or the SDK is not installed.
    """
    wait = table.optional_text(context, "inactive_wait") or _WAIT
    span = parse_duration(wait)
    if span is None:
        raise table.faulty(
            context,
            "has an `inactive_wait` that is no duration",
            f'write inactive_wait = "{_WAIT}"',
        )
    target = AwsTarget(
        table.needed_text(context, "region", example="eu-central-1"), _endpoint(context)
    )
    table.require_driver("botocore", "boto3", "AWS")
    return AwsAccessKey(target, context, wait_seconds=int(span.total_seconds()))


class AwsAccessKey(OnePhase):
    """
    Rotates the access key of one IAM user; see the module.

    Args:
        wait_seconds: How long the old key is switched off before it is deleted.
    """

    def __init__(self, target: AwsTarget, context: KindContext, *, wait_seconds: int) -> None:
        self._target = target
        self._context = context
        self._wait_seconds = wait_seconds

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """
        Return what a rotation will do, after looking at the keys that there are.

        Raises:
            Rejected: The keys may not be seen.
        """
        keys = self._keys(current)
        there = keys.listed()
        lines = [
            ("create", f"a second access key for the user `{keys.user}`"),
            ("check", "ask AWS whose it is; the same user and account as before"),
        ]
        if current is not None:
            wait = self._span()
            lines += [
                ("retire", f"switch `{_id(current)}` off, wait {wait}, delete it"),
                ("prove", "a call with the old key is refused"),
            ]
        others = [key for key in there if current is None or key.id != _id(current)]
        if len(there) >= LIMIT_KEYS:
            lines += [("note", self._in_the_way(keys, key)) for key in others]
        return lines

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Delete what an earlier try left, if that is certain, then make a key.

        Raises:
            NotYet: There are two keys, and a person must say which is not needed.
            OutcomeUnknown: The answer was lost. Call again with the same *token*.
        """
        keys = self._keys(current)
        there = self._without_lost(keys, current, token)
        self._refuse_two(keys, current, there)
        before = frozenset(key.id for key in there)
        keys.write(Note(str(token), self._context.clock.now(), before))
        try:
            key_id, secret = keys.create()
        except Rejected as error:
            if error.code != LIMIT:
                raise
            # Made by somebody since they were listed.
            self._refuse_two(keys, current, keys.listed())
            raise
        return {KEY_ID: SecretValue.from_text(key_id), SECRET_KEY: secret}

    def clean_up(self, token: Token, *, current: Values | None = None) -> None:
        """Delete the key that `create` with *token* made and nobody stored."""
        if self._context.admin is None and current is None:
            # A first key without an administrator: `create` could not ask either.
            return
        if current is None and table.optional_text(self._context, "user") is None:
            return
        keys = self._keys(current)
        note = keys.note()
        if note is not None and note.token == str(token):
            self._without_lost(keys, current, token)
            keys.erase_note()

    def apply(self, current: Values | None, pending: Values) -> None:
        """Take the note away: the new key is stored, so that it cannot be lost any more."""
        self._keys(current, pending).erase_note()

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Ask AWS whose *pending* is; it takes a while to be known everywhere."""
        found = until(self._context.clock, lambda: self._if_accepted(pending))
        if found is None:
            found = self._identity(pending)
        old = None if current is None else self._if_accepted(current)
        wanted = table.optional_text(self._context, "user") if old is None else old.user
        if (old is not None and found.arn != old.arn) or wanted not in {None, found.user}:
            expected = wanted if old is None else old.arn
            raise VerificationFailed(
                f"the new access key belongs to `{found.arn}`, not to `{expected}`",
                hint="check `user` in the secret's target",
            )
        return Evidence("call accepted", f"the user `{found.user}` of the account {found.account}")

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Delete the new key."""
        keys = self._keys(current, pending)
        if _find(keys.listed(), _id(pending)) is not None:
            keys.delete(_id(pending), point="withdraw")
        if current is not None or self._context.admin is not None:
            keys.erase_note()

    def retire(self, current: Values, old: Values) -> None:
        """
        Switch the old key off, and when called again delete it.

        Raises:
            NotYet: It is switched off; whoever still needs it is heard of in the meantime.
            VerificationFailed: *current* is refused, so the old one is let be.
        """
        old_id = _id(old)
        if old_id == _id(current):
            raise Rejected(
                "the old and the new version are the same access key",
                hint="look at `keyturn history`, and rotate again",
                code="target.role",
            )
        self.probe(current)
        keys = self._keys(current)
        there = keys.listed()
        found = _find(there, old_id)
        if found is None:
            return
        if found.active:
            used = keys.last_used(old_id)
            keys.switch_off(old_id)
            if self._wait_seconds > 0:
                raise NotYet(
                    f"the access key `{old_id}` is switched off, and is deleted in {self._span()};"
                    f" it was last used {used or 'never'}",
                    hint="whoever still needs it fails now; to help them: aws iam update-access-key"
                    f" --user-name {keys.user} --access-key-id {old_id} --status Active",
                    person=False,
                    again_seconds=self._wait_seconds,
                )
        keys.delete(old_id, point="retire")

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:  # noqa: ARG002 - the port's
        """
        Call AWS with *old* and be refused.

        Raises:
            VerificationFailed: It still works.
            Unavailable: No answer, so nothing is proven.
        """
        refused = until(self._context.clock, lambda: self._refusal(old))
        if refused is None:
            raise VerificationFailed(
                f"the old access key `{_id(old)}` still works",
                hint="it may be of another user: see who owns it in IAM, and delete it there",
                code="target.still-works",
            )
        return Evidence("call refused", refused)

    def probe(self, values: Values) -> Evidence:
        """
        Ask AWS whose *values* are.

        Raises:
            VerificationFailed: They are refused.
            Unavailable: No answer.
        """
        found = self._identity(values)
        return Evidence("call accepted", f"the user `{found.user}` of the account {found.account}")

    def rehearsal(self) -> RotationKind | None:
        """Return these steps, with the rights that only `retire` needs tried on the second key."""
        return _Rehearsal(self._target, self._context, wait_seconds=self._wait_seconds)

    def _keys(self, *known: Values | None) -> UserKeys:
        ref = self._context.ref
        tag = f"keyturn:{self._context.project}/{ref.environment}/{ref.name}"
        own = next((values for values in known if values is not None), None)
        user = table.optional_text(self._context, "user")
        if user is None:
            if own is None:
                raise table.faulty(self._context, "does not say `user`", 'add user = "NAME"')
            user = self._identity(own).user
        return UserKeys(self._target, self._acting(own), user, tag=tag)

    def _acting(self, own: Values | None) -> AwsKey:
        admin = self._context.admin
        if admin is not None:
            return AwsKey(
                table.admin_field(self._context, admin, KEY_ID).reveal_text(),
                table.admin_field(self._context, admin, SECRET_KEY),
                f"the administrator `{self._context.admin_name}`",
            )
        if own is None:
            raise table.faulty(
                self._context, "names nobody who may make a key", 'add admin = "NAME"'
            )
        return self._own(own)

    def _own(self, values: Values) -> AwsKey:
        return AwsKey(_id(values), values[SECRET_KEY], f"`{self._context.ref.name}`")

    def _without_lost(self, keys: UserKeys, current: Values | None, token: Token) -> list[KeyFacts]:
        """Return the keys that there are, after the lost one was deleted."""
        note, own = keys.note(), None if current is None else _id(current)
        if note is None:
            return keys.listed()
        # A key that was made a moment ago may not be listed yet.
        seconds = _LISTED_SECONDS if note.token == str(token) else 0.0
        lost = until(
            self._context.clock,
            lambda: lost_key(note, keys.listed(), current=own),
            seconds=seconds,
        )
        if lost is not None and keys.last_used(lost.id) is None:
            keys.delete(lost.id, point="sweep")
            return [key for key in keys.listed() if key.id != lost.id]
        return keys.listed()

    def _refuse_two(
        self, keys: UserKeys, current: Values | None, there: Sequence[KeyFacts]
    ) -> None:
        if len(there) < LIMIT_KEYS:
            return
        own = None if current is None else _id(current)
        others = [key for key in there if key.id != own]
        raise NotYet(
            "; ".join(self._in_the_way(keys, key) for key in others),
            hint=f"if nobody uses it: aws iam delete-access-key --user-name {keys.user}"
            f" --access-key-id {others[-1].id}; then rotate again with --resume",
            person=True,
            code="target.limit",
        )

    def _in_the_way(self, keys: UserKeys, key: KeyFacts) -> str:
        return (
            f"the user `{keys.user}` has two access keys, which is all that AWS allows: `{key.id}`"
            f" is not the current one, {'active' if key.active else 'inactive'}, last used"
            f" {keys.last_used(key.id) or 'never'}"
        )

    def _identity(self, values: Values) -> Identity:
        try:
            return identity(self._target, self._own(values))
        except Rejected as error:
            if error.code != LOGIN_REFUSED:
                raise
            raise VerificationFailed(error.message, hint=error.hint, code=error.code) from error

    def _if_accepted(self, values: Values) -> Identity | None:
        try:
            return self._identity(values)
        except VerificationFailed:
            return None

    def _refusal(self, old: Values) -> str | None:
        try:
            self._identity(old)
        except VerificationFailed as error:
            return error.message
        return None

    def _span(self) -> str:
        from datetime import timedelta

        return format_duration(timedelta(seconds=self._wait_seconds))


class _Rehearsal(AwsAccessKey):
    """On a key that nobody uses, what `retire` does with the old one is done too."""

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """Check it, and ask when it was last used."""
        seen = super().check(current, pending)
        self._keys(current, pending).last_used(_id(pending))
        return seen

    def whereabouts(self, pending: Values) -> tuple[str, str]:
        """Return the id of *pending*, and the command that deletes it."""
        user = table.optional_text(self._context, "user")
        of = f" --user-name {user}" if user else ""
        return (
            f"the access key `{_id(pending)}`",
            f"delete it: aws iam delete-access-key{of} --access-key-id {_id(pending)}",
        )

    def withdraw(self, current: Values | None, pending: Values) -> None:
        """Switch the key off and delete it; deleted it is also where the first is denied."""
        keys = self._keys(current, pending)
        try:
            if _find(keys.listed(), _id(pending)) is not None:
                keys.switch_off(_id(pending))
        finally:
            super().withdraw(current, pending)


def _id(values: Values) -> str:
    # Half of what logs in, shown by AWS in lists and logs: no secret, only kept beside one.
    return values[KEY_ID].reveal_text()


def _find(keys: Sequence[KeyFacts], key_id: str) -> KeyFacts | None:
    return next((key for key in keys if key.id == key_id), None)


def _endpoint(context: KindContext) -> str | None:
    from urllib.parse import urlsplit

    found = table.optional_text(context, "endpoint_url")
    if found is None:
        return None
    parts = urlsplit(found)
    local = parts.hostname is not None and table.is_loopback(parts.hostname)
    if parts.hostname is None or parts.scheme not in {"http", "https"}:
        raise table.faulty(
            context, "has an `endpoint_url` that is no address", "leave it out for AWS"
        )
    if parts.scheme == "http" and not local:
        raise UsageError(
            "`endpoint_url` is plain http to another machine",
            hint='write endpoint_url = "https://HOST", or leave it out for AWS',
            code="rotation.target",
        )
    return found
