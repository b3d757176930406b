"""A real OpenBao server with an AppRole, made by a person, and an administrator of it alone."""

from __future__ import annotations

import hvac

from keyturn.testing.openbao import OpenBaoServer
from tests.worlds.base import Setup

ROLE = "clipper"
# What docs/guides/kinds/vault-approle.md says the administrator's policy is.
ADMIN_POLICY = """
path "auth/approle/role/clipper" { capabilities = ["read"] }
path "auth/approle/role/clipper/role-id" { capabilities = ["read"] }
path "auth/approle/role/clipper/secret-id" { capabilities = ["list", "update"] }
path "auth/approle/role/clipper/secret-id/lookup" { capabilities = ["update"] }
path "auth/approle/role/clipper/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/approle/role/clipper/secret-id-accessor/destroy" { capabilities = ["update"] }
"""


class VaultAppRoleWorld:
    """
    Args:
        own: The role may change itself; there is no administrator.
        role: More settings of the role.
    """

    def __init__(self, *, own=False, role=None):
        self.server = OpenBaoServer().start()
        try:
            self._open(own, role or {})
        except BaseException:
            self.close()
            raise

    def _open(self, own, role):
        self.client = self.hvac(self.server.token.reveal_text())
        self.client.sys.enable_auth_method("approle")
        self.client.sys.create_or_update_policy("keyturn-admin", ADMIN_POLICY)
        self.client.sys.create_or_update_policy(
            "clipper", 'path "secret/data/clipper" { capabilities = ["read"] }'
        )
        self.client.secrets.kv.v2.create_or_update_secret("clipper", {"k": "v"})
        policies = ["clipper", "keyturn-admin"] if own else ["clipper"]
        self.client.auth.approle.create_or_update_approle(
            ROLE, token_policies=policies, token_ttl="5m", **role
        )
        token = self.client.auth.token.create(policies=["keyturn-admin"], ttl="1h")
        self.setup = Setup(
            kind="vault-approle",
            fields=("role_id", "secret_id"),
            target={"address": self.server.address, "role": ROLE},
            first=self.by_hand(),
            admin=None if own else {"token": token["auth"]["client_token"]},
        )

    def hvac(self, token=None):
        return hvac.Client(url=self.server.address, token=token)

    def by_hand(self, **options):
        """Make a secret-id as a person does: without its accessor."""
        approle = self.client.auth.approle
        return {
            "role_id": approle.read_role_id(ROLE)["data"]["role_id"],
            "secret_id": approle.generate_secret_id(ROLE, **options)["data"]["secret_id"],
        }

    def use(self, values):
        client = self.hvac()
        try:
            client.auth.approle.login(values["role_id"], values["secret_id"])
        except hvac.exceptions.InvalidRequest:
            return False
        read = client.secrets.kv.v2.read_secret_version("clipper", raise_on_deleted_version=True)
        return read["data"]["data"] == {"k": "v"}

    def credentials(self):
        """Return the accessors of the role's secret-ids."""
        try:
            found = self.client.auth.approle.list_secret_id_accessors(ROLE)
        except hvac.exceptions.InvalidPath:
            return set()
        return set(found["data"]["keys"])

    def supply(self):
        raise NotImplementedError

    def person_ends_old(self):
        raise NotImplementedError

    def close(self):
        self.server.stop()


def open_world():
    return VaultAppRoleWorld()
