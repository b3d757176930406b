"""What Keyturn does with secrets of AWS, one call at a time, under the names it gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, is_name
from keyturn.core.model import SecretRef, VersionedValue
from keyturn.errors import Conflict, InternalError, NotFound, Rejected, UsageError
from keyturn.stores._aws_calls import (
    ABSENT,
    DELETED,
    EXISTS,
    INVALID,
    SecretsApi,
    deleted_error,
    entry_error,
)
from keyturn.stores._aws_recheck import recheck_rows
from keyturn.stores._aws_record import (
    CURRENT,
    NOTHING,
    NOTHING_ID,
    Sight,
    sight_of,
)
from keyturn.stores._place import MARK_CODE, mark_is_stale

__all__ = ["AwsSecrets", "AwsSettings"]

_SECRET_TAG: Final = "keyturn:secret"  # noqa: S105 - the name of a tag
_COPY_TAG: Final = "keyturn:copy-of"
_BATCH = 20
_PAGE = 100
_PAGES = 5_000
_AT_ONCE = 8
_MAX_TAG_KEY = 128
_MAX_TAG_VALUE = 256
# What AWS takes in tags, less what not every service takes.
_UNTAGGABLE = re.compile(r"[^\w +\-=.:/@]")
_PREFIX = re.compile(r"[A-Za-z0-9/_+=.@{}-]{1,256}", re.ASCII)

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """
    Where secrets lie in AWS Secrets Manager.

    Args:
        region: Of AWS, such as `eu-central-1`.
        endpoint_url: Of a private endpoint or an emulator; AWS itself where None.
        profile: Of the AWS settings; the SDK's usual search where None.
        prefix: Before each name; `{project}` and `{environment}` are filled in.
        kms_key: Id, ARN or alias of the key for new secrets; `aws/secretsmanager` where None.
        recovery_days: How long a deleted secret can be brought back: 7 to 30.
        layout: `string`: what applications read is the value itself, a name for each.
            `json`: one JSON object for each secret.
    """

    region: str
    endpoint_url: str | None = None
    profile: str | None = None
    prefix: str = "{project}/{environment}/"
    kms_key: str | None = None
    recovery_days: int = 30
    layout: Literal["string", "json"] = "string"

    def check(self) -> None:
        """
        Refuse what cannot work.

        Raises:
            UsageError: One of them is not possible; the message says which.
        """
        if not 7 <= self.recovery_days <= 30:  # noqa: PLR2004 - AWS's own bounds
            raise UsageError(
                f"`recovery_days` is {self.recovery_days}", hint="AWS takes 7 to 30 days"
            )
        rest = self.prefix.replace("{project}", "").replace("{environment}", "")
        if (
            "{environment}" not in self.prefix
            or not _PREFIX.fullmatch(self.prefix)
            or "{" in rest
            or "}" in rest
            or not self.prefix.endswith(("/", "-", "_", "."))
        ):
            raise UsageError(
                f"`prefix` cannot be `{self.prefix}`",
                hint="write it like `{project}/{environment}/`; two environments "
                "must not share names",
            )


class AwsSecrets:
    """
    The secrets of one project.

    Args:
        facts: What is told to AWS as tags, such as owner and purpose.
    """

    def __init__(
        self,
        api: SecretsApi,
        settings: AwsSettings,
        *,
        project: str,
        facts: Callable[[SecretRef], Mapping[str, str]],
    ) -> None:
        self.api = api
        self.settings = settings
        self.project = project
        self._facts = facts

    # --- names and tags -----------------------------------------------------------------

    def prefix(self, environment: EnvironmentName) -> str:
        """Return what the names of an environment begin with."""
        return self.settings.prefix.replace("{project}", self.project).replace(
            "{environment}", environment
        )

    def name(self, ref: SecretRef, field: FieldName | None = None) -> str:
        """Return the name in AWS of *ref*, or of the copy of one field of it."""
        name = ref.name.replace("-", "_")
        return self.prefix(ref.environment) + (name if field is None else f"{name}_{field}")

    def tags(self, ref: SecretRef, field: FieldName | None = None) -> dict[str, str]:
        """Return the tags that *ref*, or the copy of one field of it, should have."""
        own = f"{self.project}/{ref}"
        tags = {
            _UNTAGGABLE.sub("_", key)[:_MAX_TAG_KEY]: _UNTAGGABLE.sub("_", text)[:_MAX_TAG_VALUE]
            for key, text in self._facts(ref).items()
            if not key.lower().startswith(("aws:", "keyturn:"))
        }
        return tags | ({_SECRET_TAG: own} if field is None else {_COPY_TAG: f"{own}/{field}"})

    def _require_own(
        self, name: str, ref: SecretRef, sight: Sight, field: FieldName | None
    ) -> None:
        wanted = self.tags(ref, field)
        for key in (_SECRET_TAG, _COPY_TAG):
            owner = sight.tags.get(key)
            if owner is not None and owner != wanted.get(key):
                raise Rejected(
                    f"`{ref}` would be `{name}` in {self.api.where}, which belongs to `{owner}`",
                    hint="give one of them another name, or its field",
                    code="store.key_taken",
                )

    # --- looking ------------------------------------------------------------------------

    def look(self, ref: SecretRef, field: FieldName | None = None) -> Sight | None:
        """
        Return what AWS says of *ref*, or of the copy of one field; None where there is none.

        Raises:
            Rejected: It is scheduled for deletion, or is another secret's.
        """
        name = self.name(ref, field)
        try:
            answer = self.api.call("describe_secret", name, SecretId=name)
        except NotFound:
            return None
        if answer.get("DeletedDate"):
            raise deleted_error(name, self.api.where)
        sight = sight_of(ref, answer)
        self._require_own(name, ref, sight, field)
        return sight

    def seen(self, ref: SecretRef) -> Sight:
        """
        Return what AWS says of *ref*, which is known to be there.

        Raises:
            Conflict: `store.mark`: it was made a moment ago, and is not to be seen yet.
        """
        sight = self.look(ref)
        if sight is None:
            raise mark_is_stale(f"`{self.name(ref)}`")
        return sight

    def look_at_each(self, refs: Sequence[SecretRef]) -> dict[SecretRef, Sight]:
        """Return what AWS says of each of *refs*, those that are gone or to be left out."""
        found = self._each(refs, self._look_or_none)
        return {ref: sight for ref, sight in found.items() if sight is not None}

    def _look_or_none(self, ref: SecretRef) -> Sight | None:
        try:
            return self.look(ref)
        except Rejected as error:
            if error.code == DELETED:
                return None
            raise

    def _each(self, keys: Sequence[K], act: Callable[[K], T]) -> dict[K, T]:
        if len(keys) < 2:  # noqa: PLR2004 - one is done at once
            return {key: act(key) for key in keys}
        with ThreadPoolExecutor(min(_AT_ONCE, len(keys))) as pool:
            return dict(zip(keys, pool.map(act, keys), strict=True))

    def unlabelled(self, ref: SecretRef) -> dict[str, datetime]:
        """Return the versions without a label that AWS still has, and when they were made."""
        name = self.name(ref)
        found: dict[str, datetime] = {}
        for answer in self._pages(
            "list_secret_version_ids", name, SecretId=name, IncludeDeprecated=True
        ):
            for version in answer.get("Versions") or ():
                # Those with a label are told of by `look`, which may be older or newer.
                if not version.get("VersionStages"):
                    found[str(version["VersionId"])] = version["CreatedDate"]
        return found

    def names(self, environment: EnvironmentName) -> list[SecretRef]:
        """Return the secrets of Keyturn that AWS lists; those of the last minutes may lack."""
        prefix = self.prefix(environment)
        own = f"{self.project}/{environment}/"
        found = []
        filters = [{"Key": "name", "Values": [prefix]}]
        for answer in self._pages("list_secrets", prefix, Filters=filters, MaxResults=_PAGE):
            for secret in answer.get("SecretList") or ():
                tags = {tag["Key"]: tag["Value"] for tag in secret.get("Tags") or ()}
                owner = str(tags.get(_SECRET_TAG, ""))
                name = owner.removeprefix(own)
                if owner.startswith(own) and is_name(name):
                    found.append(SecretRef(environment, SecretName(name)))
        return sorted(found)

    def _pages(self, action: str, name: str, **parameters: object) -> Iterator[Mapping[str, Any]]:
        for _ in range(_PAGES):
            answer = self.api.call(action, name, point=None, **parameters)
            yield answer
            if not answer.get("NextToken"):
                return
            parameters = {**parameters, "NextToken": answer["NextToken"]}
        raise InternalError(f"`{action}` does not come to an end")

    # --- values -------------------------------------------------------------------------

    def value_at(self, ref: SecretRef, stage: str) -> Mapping[str, Any] | None:
        """Return the answer that carries what has the label *stage*; None where nothing has."""
        name = self.name(ref)
        try:
            return self.api.call("get_secret_value", name, SecretId=name, VersionStage=stage)
        except NotFound:
            return None

    def value_of(self, ref: SecretRef, version: str) -> Mapping[str, Any]:
        """
        Return the answer that carries a version that is known to be there.

        Raises:
            NotFound: `store.absent`: AWS does not find it within the time that it may take.
        """
        name = self.name(ref)
        absent: NotFound | None = None
        for _ in self.api.pauses():
            try:
                return self.api.call("get_secret_value", name, SecretId=name, VersionId=version)
            except NotFound as error:
                # Just written, it may not be readable everywhere yet.
                absent = error
        raise absent or NotFound(f"`{name}` has no such version", code=ABSENT)

    def values(self, refs: Sequence[SecretRef]) -> dict[SecretRef, Mapping[str, Any]]:
        """Return the answers that carry the current values of *refs*: one call for each 20."""
        by_name = {self.name(ref): ref for ref in refs}
        names = list(by_name)
        found: dict[SecretRef, Mapping[str, Any]] = {}
        for start in range(0, len(names), _BATCH):
            chunk = names[start : start + _BATCH]
            for answer in self._pages("batch_get_secret_value", chunk[0], SecretIdList=chunk):
                for entry in answer.get("Errors") or ():
                    if entry.get("ErrorCode") != "ResourceNotFoundException":
                        name = str(entry.get("SecretId", ""))
                        if entry.get("ErrorCode") == "InvalidRequestException":
                            raise deleted_error(name, self.api.where)
                        raise entry_error(name, str(entry.get("ErrorCode")), self.api.where)
                for entry in answer.get("SecretValues") or ():
                    if entry.get("Name") in by_name:
                        found[by_name[entry["Name"]]] = entry
        return found

    def recheck(
        self,
        environment: EnvironmentName,
        declared: Mapping[SecretName, Collection[FieldName]],
        given: Mapping[SecretName, VersionedValue],
    ) -> Sequence[Sequence[str]]:
        """Return how one request for each 20 secrets tells that *given* is still current."""
        endpoint, profile = self.api.endpoint(), self.settings.profile
        return recheck_rows(
            environment, declared, given, name_of=self.name, endpoint=endpoint, profile=profile
        )

    # --- changes ------------------------------------------------------------------------

    def create(
        self,
        ref: SecretRef,
        field: FieldName | None = None,
        *,
        version: str = NOTHING_ID,
        content: Mapping[str, object] | None = None,
    ) -> None:
        """
        Make the secret, current at what no application takes for a value.

        Made again with the same version it is the same secret; where somebody else
        made it, the caller is to look again.

        Raises:
            Conflict: `store.mark`: somebody made it.
            Rejected: The name waits for a deletion.
        """
        name = self.name(ref, field)
        parameters: dict[str, object] = {
            "Name": name,
            "ClientRequestToken": version,
            "Tags": _tag_list(self.tags(ref, field)),
            "Description": f"kept by Keyturn for `{self.project}/{ref}`",
            **(content or {"SecretString": NOTHING}),
        }
        if self.settings.kms_key is not None:
            parameters["KmsKeyId"] = self.settings.kms_key
        try:
            self.api.call("create_secret", name, point="create", **parameters)
        except Conflict as error:
            if error.code == EXISTS:
                raise mark_is_stale(f"`{name}`") from error
            raise

    def put(
        self,
        ref: SecretRef,
        version: str,
        content: Mapping[str, object],
        labels: Sequence[str],
        *,
        field: FieldName | None = None,
    ) -> None:
        """
        Store a version with *labels*, which no other version may need.

        Raises:
            Conflict: `store.exists`: there is such a version, with another value.
        """
        if not labels or CURRENT in labels:
            raise InternalError("a version would be current before it is promoted")
        name = self.name(ref, field)
        self.api.call(
            "put_secret_value",
            name,
            point="put",
            SecretId=name,
            ClientRequestToken=version,
            VersionStages=list(labels),
            **content,
        )

    def move(
        self,
        ref: SecretRef,
        label: str,
        *,
        to: str | None,
        off: str | None,
        field: FieldName | None = None,
    ) -> None:
        """
        Move *label* from the version *off* to the version *to*; None is nowhere.

        AWS does it only where the label is on *off* and nowhere else: a compare-and-set.

        Raises:
            Conflict: `store.mark`: it is not as the caller thinks.
        """
        if label == CURRENT and to is None:
            raise InternalError("a secret would be left with nothing current")
        name = self.name(ref, field)
        ends = {"MoveToVersionId": to, "RemoveFromVersionId": off}
        given = {key: version for key, version in ends.items() if version is not None}
        point = "stage" if label.startswith("AWS") else "label"
        try:
            self.api.call(
                "update_secret_version_stage",
                name,
                point=point,
                SecretId=name,
                VersionStage=label,
                **given,
            )
        except (NotFound, Rejected) as error:
            if error.code in (ABSENT, INVALID):
                raise mark_is_stale(f"`{name}`") from error
            raise

    def drop(self, ref: SecretRef, label: str, off: str) -> None:
        """Take *label* off a version; whether somebody was first does not matter."""
        try:
            self.move(ref, label, to=None, off=off)
        except Conflict as error:
            sight = self.look(ref) if error.code == MARK_CODE else None
            if error.code != MARK_CODE or (sight is not None and sight.has(off, label)):
                raise

    def tag(self, ref: SecretRef, sight: Sight, tags: Mapping[str, str]) -> None:
        """Give the secret those of *tags* that it lacks."""
        lacking = {key: text for key, text in tags.items() if sight.tags.get(key) != text}
        if lacking:
            name = self.name(ref)
            self.api.call("tag_resource", name, point="tag", SecretId=name, Tags=_tag_list(lacking))

    def delete(self, ref: SecretRef, field: FieldName | None = None) -> None:
        """Schedule the secret for deletion; what is scheduled or absent already is fine."""
        name = self.name(ref, field)
        try:
            self.api.call(
                "delete_secret",
                name,
                point="delete",
                SecretId=name,
                RecoveryWindowInDays=self.settings.recovery_days,
            )
        except (NotFound, Rejected) as error:
            if error.code not in (ABSENT, DELETED):
                raise

    def undelete(self, ref: SecretRef, field: FieldName | None = None) -> bool:
        """Take back a deletion whose time has not come; tell whether there is such a secret."""
        name = self.name(ref, field)
        try:
            self.api.call("restore_secret", name, point="undelete", SecretId=name)
        except NotFound:
            return False
        return True


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": text} for key, text in sorted(tags.items())]
