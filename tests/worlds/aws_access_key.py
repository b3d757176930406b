"""moto's IAM and STS, with an application's user and an administrator who may do no more than needed."""

from __future__ import annotations

import contextlib

import botocore.exceptions

from keyturn.core.value import SecretValue
from keyturn.testing.moto import MotoServer
from tests.worlds.base import Setup

USER = "clipper"
# What docs/guides/kinds/aws-access-key.md says an administrator needs.
ADMIN_ACTIONS = (
    "iam:ListAccessKeys",
    "iam:CreateAccessKey",
    "iam:UpdateAccessKey",
    "iam:DeleteAccessKey",
    "iam:GetAccessKeyLastUsed",
)
TAG_ACTIONS = ("iam:ListUserTags", "iam:TagUser", "iam:UntagUser")


class AwsAccessKeyWorld:
    """
    Args:
        own: The user may change its own keys; there is no administrator.
        tags: The administrator may write tags.
    """

    def __init__(self, *, own=False, tags=True):
        self.server = MotoServer().start()
        try:
            self._open(own, tags)
        except BaseException:
            self.close()
            raise

    def _open(self, own, tags):
        rights = dict.fromkeys(ADMIN_ACTIONS + (TAG_ACTIONS if tags else ()), "Allow")
        key_id, secret = self.server.make_user(
            USER, actions={"s3:ListAllMyBuckets": "Allow"} | (rights if own else {})
        )
        admin_id, admin_secret = self.server.make_user("keyturn", actions=rights)
        self.root = self.server.make_user("root-like", actions={"iam:*": "Allow"})
        self.server.check_keys()
        self.iam = self.server.client("iam", self.root)
        self.setup = Setup(
            kind="aws-access-key",
            fields=("access_key_id", "secret_access_key"),
            target={
                "region": self.server.region,
                "endpoint_url": self.server.address,
                "user": USER,
                "inactive_wait": "1s",
            },
            first={"access_key_id": key_id, "secret_access_key": secret.reveal_text()},
            admin=None
            if own
            else {"access_key_id": admin_id, "secret_access_key": admin_secret.reveal_text()},
        )

    def use(self, values):
        secret = SecretValue.from_text(values["secret_access_key"])
        # The emulator takes an inactive key, which AWS does not: its status is looked at too.
        if values["access_key_id"] not in self.credentials():
            return False
        client = self.server.client("s3", (values["access_key_id"], secret))
        try:
            with contextlib.closing(client):
                client.list_buckets()
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in {"InvalidAccessKeyId", "SignatureDoesNotMatch"}:
                return False
            raise
        return True

    def keys(self):
        """Return the status of each key of the application's user."""
        found = self.iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
        return {row["AccessKeyId"]: row["Status"] for row in found}

    def tags(self):
        return {row["Key"]: row["Value"] for row in self.iam.list_user_tags(UserName=USER)["Tags"]}

    def credentials(self):
        """Return the ids of the keys that are active."""
        return {key for key, status in self.keys().items() if status == "Active"}

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        if hasattr(self, "iam"):
            self.iam.close()
        self.server.stop()


def open_world():
    return AwsAccessKeyWorld()
