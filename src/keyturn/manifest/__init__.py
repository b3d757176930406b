"""
The manifest: which secrets a project has, and everything else that `keyturn.toml` says.

Pure: text in, frozen objects or text out. Reading and writing the file is the caller's.
`load` gives a checked `Manifest`, `set_key` and its kin edit the text, `parse_env` and
`draft` make the first one from a `.env.example`, `json_schema` is for editors. What only
some commands need loads on first use.
"""

from __future__ import annotations

import importlib

from keyturn.manifest.consumers import (
    CommandReload,
    ComposeReload,
    Consumer,
    Health,
    HttpReload,
    KubernetesReload,
    Reload,
    Render,
    RenderFormat,
    SignalReload,
    SwarmReload,
    SystemdAction,
    SystemdReload,
    Workload,
)
from keyturn.manifest.durations import format_duration, parse_duration
from keyturn.manifest.kinds import (
    KINDS,
    VALUE,
    GenerateFormat,
    GenerateSettings,
    KindSpec,
    Making,
    Priority,
    SecretKind,
    Strategy,
    is_identifier,
    kind_spec,
)
from keyturn.manifest.loading import load
from keyturn.manifest.model import (
    BackupSettings,
    Contacts,
    Environment,
    Manifest,
    Project,
    ScheduleSettings,
    Secret,
    TargetValue,
)
from keyturn.manifest.stores import LiveKeys, StoreKind, StoreSettings
from keyturn.manifest.strength import (
    find_values,
    holds_value,
    is_placeholder,
    looks_like_secret,
    says_secret,
)
from keyturn.manifest.targets import target_spec
from keyturn.manifest.windows import Window, zone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyturn.manifest.drafting import Draft, DraftedSecret, ReviewNote, draft, project_name_from
    from keyturn.manifest.edit import TomlValue, add_secret, remove, set_key
    from keyturn.manifest.envfile import EnvEntry, EnvFile, parse_env
    from keyturn.manifest.schema import json_schema
    from keyturn.manifest.updating import Adoption, Update, adopt, may_become_setting, update

__all__ = [
    "KINDS",
    "VALUE",
    "Adoption",
    "BackupSettings",
    "CommandReload",
    "ComposeReload",
    "Consumer",
    "Contacts",
    "Draft",
    "DraftedSecret",
    "EnvEntry",
    "EnvFile",
    "Environment",
    "GenerateFormat",
    "GenerateSettings",
    "Health",
    "HttpReload",
    "KindSpec",
    "KubernetesReload",
    "LiveKeys",
    "Making",
    "Manifest",
    "Priority",
    "Project",
    "Reload",
    "Render",
    "RenderFormat",
    "ReviewNote",
    "ScheduleSettings",
    "Secret",
    "SecretKind",
    "SignalReload",
    "StoreKind",
    "StoreSettings",
    "Strategy",
    "SwarmReload",
    "SystemdAction",
    "SystemdReload",
    "TargetValue",
    "TomlValue",
    "Update",
    "Window",
    "Workload",
    "add_secret",
    "adopt",
    "draft",
    "find_values",
    "format_duration",
    "holds_value",
    "is_identifier",
    "is_placeholder",
    "json_schema",
    "kind_spec",
    "load",
    "looks_like_secret",
    "may_become_setting",
    "parse_duration",
    "parse_env",
    "project_name_from",
    "remove",
    "says_secret",
    "set_key",
    "target_spec",
    "update",
    "zone",
]

_LATER = {
    "drafting": ("Draft", "DraftedSecret", "ReviewNote", "draft", "project_name_from"),
    "edit": ("TomlValue", "add_secret", "remove", "set_key"),
    "envfile": ("EnvEntry", "EnvFile", "parse_env"),
    "schema": ("json_schema",),
    "updating": ("Adoption", "Update", "adopt", "may_become_setting", "update"),
}


def __getattr__(name: str) -> object:
    for home, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module(f"keyturn.manifest.{home}"), name)
    raise AttributeError(f"module 'keyturn.manifest' has no attribute {name!r}")
