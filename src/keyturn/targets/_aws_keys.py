"""The access keys of one IAM user: what there is, and the note that tells a lost one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from keyturn.core.clock import parse_time, rfc3339
from keyturn.core.value import SecretValue
from keyturn.errors import OutcomeUnknown, Rejected
from keyturn.targets._aws_api import ABSENT, DENIED, AwsKey, AwsTarget, call

__all__ = ["LIMIT_KEYS", "Identity", "KeyFacts", "Note", "UserKeys", "identity", "lost_key"]

# AWS allows a user no more.
LIMIT_KEYS = 2
# How long after the note a key may have been made and still be ours: a call takes
# seconds, and our clock and AWS's differ by less than five minutes or no call is taken.
_WINDOW = timedelta(minutes=6)
_TAG_KEY_LIMIT = 128
_PARTS = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose key it is, by AWS's own word."""

    account: str
    arn: str
    user: str


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """One access key, without its secret."""

    id: str
    active: bool
    made: datetime


@dataclass(frozen=True, slots=True)
class Note:
    """
    What is kept as a tag of the user while a key is made.

    Args:
        before: The ids of the keys that there were.
    """

    token: str
    at: datetime
    before: frozenset[str]

    def text(self) -> str:
        """Return the tag's value."""
        return " ".join([self.token, rfc3339(self.at), "+".join(sorted(self.before))])

    @staticmethod
    def parse(text: str) -> Note | None:
        """Return the note that `text` wrote; None for what a person wrote."""
        parts = text.split(" ")
        if len(parts) != _PARTS:
            return None
        try:
            at = parse_time(parts[1])
        except ValueError:
            return None
        if at.tzinfo is None:
            return None
        return Note(parts[0], at, frozenset(filter(None, parts[2].split("+"))))


def lost_key(note: Note, keys: Sequence[KeyFacts], *, current: str | None) -> KeyFacts | None:
    """
    Return the key whose answer was lost, where the note leaves no doubt; pure.

    It is the only one that was not there before, was made when the note was written,
    is active, and is not *current*. Whether it was ever used is for AWS to say.
    """
    new = [key for key in keys if key.id not in note.before and key.id != current]
    if len(new) != 1 or not new[0].active:
        return None
    return new[0] if abs(new[0].made - note.at) <= _WINDOW else None


def identity(target: AwsTarget, key: AwsKey) -> Identity:
    """
    Ask AWS whose *key* is; nobody can be forbidden to.

    Raises:
        Rejected: It is not accepted (`target.login-refused`), or is no IAM user's.
        Unavailable: No answer.
    """
    answer = call(target, key, "sts", "get_caller_identity")
    arn = str(answer["Arn"])
    kind, _, path = arn.rpartition(":")[2].partition("/")
    if kind != "user":
        raise Rejected(
            f"the access key of {key.whose} belongs to `{arn}`, which is no IAM user",
            hint="use a key of an IAM user: those of the root user and of roles are not rotated",
            code="target.role",
        )
    return Identity(str(answer["Account"]), arn, path.rpartition("/")[2])


class UserKeys:
    """
    The keys of *user*, as *key* sees and changes them.

    Args:
        tag: Names the note of one secret among the user's tags.
    """

    def __init__(self, target: AwsTarget, key: AwsKey, user: str, *, tag: str) -> None:
        self._target = target
        self._key = key
        self.user = user
        self._tag = tag[:_TAG_KEY_LIMIT]

    def listed(self) -> list[KeyFacts]:
        """Return the keys that there are."""
        answer = self._ask("list_access_keys", UserName=self.user)
        return [
            KeyFacts(
                str(row["AccessKeyId"]),
                row["Status"] == "Active",
                row["CreateDate"].astimezone(UTC),
            )
            for row in answer["AccessKeyMetadata"]
        ]

    def last_used(self, key_id: str) -> str | None:
        """Return when and by what *key_id* was last used, in words; None for never."""
        used = self._ask("get_access_key_last_used", AccessKeyId=key_id)["AccessKeyLastUsed"]
        when = used.get("LastUsedDate")
        if when is None:
            return None
        return f"{rfc3339(when)[:19]}Z by {used.get('ServiceName', 'a service')}"

    def create(self) -> tuple[str, SecretValue]:
        """
        Make a key and return its id and secret.

        Raises:
            Rejected: There are two already (`target.limit`), or it is denied.
            OutcomeUnknown: The answer was lost; there may be one that nobody has.
        """
        made = self._change("create", "create_access_key", UserName=self.user).get("AccessKey", {})
        if not made.get("AccessKeyId") or not made.get("SecretAccessKey"):
            raise OutcomeUnknown(
                f"{self._target} made an access key and did not say it",
                hint="run the command again: it asks what is true first",
            )
        return str(made["AccessKeyId"]), SecretValue.from_text(made["SecretAccessKey"])

    def switch_off(self, key_id: str) -> None:
        """Let *key_id* be refused; it can be switched on again."""
        self._change(
            "inactive",
            "update_access_key",
            UserName=self.user,
            AccessKeyId=key_id,
            Status="Inactive",
        )

    def delete(self, key_id: str, *, point: str) -> None:
        """End *key_id* for good; one that is not there is fine."""
        try:
            self._change(point, "delete_access_key", UserName=self.user, AccessKeyId=key_id)
        except Rejected as error:
            if error.code != ABSENT:
                raise

    def note(self) -> Note | None:
        """Return the note; None where there is none or tags may not be read."""
        try:
            answer = self._ask("list_user_tags", UserName=self.user)
        except Rejected as error:
            if error.code != DENIED:
                raise
            return None
        for row in answer["Tags"]:
            if row["Key"] == self._tag:
                return Note.parse(str(row["Value"]))
        return None

    def write(self, note: Note) -> bool:
        """Keep *note* at the user; return False where tags may not be written."""
        tags = [{"Key": self._tag, "Value": note.text()}]
        try:
            self._change("note", "tag_user", UserName=self.user, Tags=tags)
        except Rejected as error:
            if error.code != DENIED:
                raise
            return False
        return True

    def erase_note(self) -> None:
        """Take the note away, if there is one."""
        if self.note() is not None:
            self._change("erase", "untag_user", UserName=self.user, TagKeys=[self._tag])

    def _ask(self, action: str, **parameters: object) -> dict[str, Any]:
        return dict(call(self._target, self._key, "iam", action, parameters))

    def _change(self, point: str, action: str, **parameters: object) -> dict[str, Any]:
        return dict(call(self._target, self._key, "iam", action, parameters, point=point))
