"""
What can be recorded: the closed list of actions, their outcomes, and the event itself.

An event names things and holds keyed digests that its caller made. It has no
place for a value, and `record.encode` refuses one that was smuggled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from keyturn.core.model import Principal

__all__ = ["Action", "Event", "Facts", "Outcome"]

# Names and numbers about an event; never a value.
Facts = Mapping[str, str | int]


class Action(StrEnum):
    """
    What was asked for, as `noun.noun.verb`. The list is closed; the words are part of the format.

    Each member states its `meaning`, and whether a record of it that says `begun`
    stays open until a later record settles it (`settles`). Reads are recorded
    before the value leaves and need no second record. The steps of a rotation are
    settled by the rotation's own journal.
    """

    meaning: str
    settles: bool

    def __new__(cls, text: str, meaning: str = "", settles: bool = False) -> Self:  # noqa: FBT001, FBT002 - an enum member's value is a plain tuple
        member = str.__new__(cls, text)
        member._value_ = text
        member.meaning = meaning
        member.settles = settles
        return member

    PROJECT_CREATE = "store.project.create", "a project got its store and keys", True
    STORE_INSPECT = "store.health.inspect", "doctor looked at the store"
    ROLLBACK_ACCEPT = "store.rollback.accept", "an older state of the store was accepted", True
    ROOT_KEY_ROTATE = "key.root.rotate", "the root key was changed, data keys rewrapped", True
    DATA_KEY_ROTATE = "key.data.rotate", "a new data key took over and values were re-sealed", True

    SECRET_LIST = "secret.metadata.list", "names and stages were listed; implies no value"
    SECRET_HISTORY = "secret.metadata.history", "the versions of a secret were listed; no value"
    SECRET_STATUS = "secret.metadata.status", "ages and due dates were shown; no value"
    VALUE_READ = "secret.value.read", "a value was given to a person or program"
    VALUE_PROBE = "secret.value.probe", "the retrieval test used a value and did not show it"

    VERSION_SET = "secret.version.set", "a value was given by hand and made current", True
    VERSION_GENERATE = "secret.version.generate", "a value was generated and made current", True
    VERSION_IMPORT = "secret.version.import", "a value was taken from a file and made current", True
    VERSION_PROMOTE = "secret.version.promote", "a rotation moved current to a version", True
    VERSION_ROLL_BACK = "secret.version.rollback", "the previous version was made current", True

    VERSION_ACCEPT = "secret.version.accept", "a value that others put there became current", True
    VERSION_RESTORE = "secret.version.restore", "a value that others put there was replaced", True
    VERSION_DISCARD = "secret.version.discard", "a version that was pending was given up", True
    VERSION_SYNC = "secret.version.sync", "versions were written to another store", True

    ENVIRONMENT_DELIVER = (
        "environment.value.deliver",
        "values were put into the environment of a program about to start",
    )
    ENVIRONMENT_IMPORT = "environment.value.import", "a file of values was taken in", True
    CONSUMER_RENDER = "consumer.file.render", "values were written to a consumer's file", True
    CONSUMER_INSPECT = "consumer.file.inspect", "a consumer's file was compared by digest"
    CONSUMER_RELOAD = "consumer.process.reload", "a consumer was told to read its values again"

    ROTATION_BEGIN = "rotation.run.begin", "a rotation was started"
    ROTATION_RESUME = "rotation.run.resume", "a rotation was taken up again"
    ROTATION_FINISH = "rotation.run.finish", "a rotation ended with the new version in use"
    ROTATION_ROLL_BACK = "rotation.run.rollback", "a rotation ended with the old version in use"
    ROTATION_STUCK = "rotation.run.stick", "a rotation needs a person"
    ROTATION_STEP_BEGIN = "rotation.step.begin", "a step is about to act"
    ROTATION_STEP_FINISH = "rotation.step.finish", "a step has acted, or failed to"

    ROTATION_REHEARSE = "rotation.plan.rehearse", "a rotation was tried on a throw-away credential"

    BACKUP_WRITE = "backup.file.write", "values were sealed into a backup, for others to open", True
    BACKUP_REHEARSE = "backup.file.rehearse", "a backup was restored to a scratch place", True
    BACKUP_RESTORE = "backup.file.restore", "versions of a backup were written to a store", True

    NOTICE_SEND = "notice.message.send", "a contact was told of secrets that need attention"

    ACCESS_DENIED = "access.request.deny", "a request was refused; the detail names what was asked"

    AUDIT_READ = "audit.chain.read", "the audit log was shown"
    AUDIT_VERIFY = "audit.chain.verify", "the audit log was verified"
    AUDIT_EXPORT = "audit.chain.export", "the audit log was copied into a bundle"
    SEGMENT_CREATE = "audit.segment.create", "a segment of the read log was started"
    SEGMENT_ANCHOR = "audit.segment.anchor", "the head of a segment was written into the chain"
    SEGMENT_REPAIR = "audit.segment.repair", "a torn tail of a segment was sealed off"
    SEGMENT_ROTATE = "audit.segment.rotate", "a full segment was closed"


class Outcome(StrEnum):
    """
    How it went.

    `begun` precedes an effect. `unknown` says that no answer came: such a record
    settles nothing, and what it belongs to stays open until one that does.
    """

    DENIED = "denied"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Event:
    """
    One thing to record.

    Args:
        object: What it was done to, such as `production/db`.
        source: Where from: interface, host, pid, terminal session.
        detail: What else is known, such as a version number or a keyed digest.
        settles: The `seq` of the `begun` record whose outcome this is.
    """

    action: Action
    object: str
    outcome: Outcome
    actor: Principal
    reason: str | None = None
    source: Facts = field(default_factory=dict)
    detail: Facts = field(default_factory=dict)
    settles: int | None = None
