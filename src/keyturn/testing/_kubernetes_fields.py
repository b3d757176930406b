"""
Who owns which field of an object, and what patches make of it: pure.

A field is a path of names to a value that is no map. Ownership is written as the
API does: `managedFields`, one entry for each manager and operation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from keyturn.testing._kubernetes_status import Cause, Refused, failure
from keyturn.testing.simulators._server import Reply

__all__ = ["Object", "applied", "as_mapping", "merged", "updated"]

Object = dict[str, object]
_Path = tuple[str, ...]
_Owners = dict[tuple[str, str], set[_Path]]

# What the server keeps itself, and nobody owns.
_SYSTEM = {
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "uid"),
    ("metadata", "resourceVersion"),
    ("metadata", "generation"),
    ("metadata", "creationTimestamp"),
}


def as_mapping(found: object) -> dict[str, object]:
    """Return *found* where it is a map, else an empty one."""
    return found if isinstance(found, dict) else {}


def merged(live: object, patch: object) -> object:
    """Return *live* with a JSON merge patch (RFC 7386) done to it."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def updated(live: Object | None, new: Object, *, manager: str, time: str) -> Object:
    """Return *new* with its owners: *manager* has what it changed, and nobody what went."""
    before = _leaves(live or {})
    after = _leaves(new)
    changed = {path for path, value in after.items() if before.get(path, ...) != value}
    owners = _owners(live or {})
    for paths in owners.values():
        paths.difference_update(changed)
        paths.intersection_update(after)
    if changed:
        owners.setdefault((manager, "Update"), set()).update(changed)
    return _owned(new, owners, live, time=time)


def applied(live: Object | None, wanted: Object, *, manager: str, force: bool, time: str) -> Object:
    """
    Return what a server-side apply makes of *live*.

    Raises:
        Refused: Others own what *wanted* would change, and *force* is not set.
    """
    fields = _leaves(wanted)
    ours = (manager, "Apply")
    owners = _owners(live or {})
    mine = owners.pop(ours, set())
    clashes = _clashes(live or {}, fields, owners)
    if clashes and not force:
        raise _apply_conflict(clashes, str(as_mapping(wanted.get("metadata")).get("name", "")))
    for manager_key, paths in clashes.items():
        owners[manager_key] -= paths
    result = copy.deepcopy(live) if live is not None else {}
    for path, value in fields.items():
        _set(result, path, value)
    for path in mine - fields.keys():
        if not any(path in paths for paths in owners.values()):
            _remove(result, path)
    result["apiVersion"], result["kind"] = wanted.get("apiVersion"), wanted.get("kind")
    owners[ours] = set(fields)
    return _owned(result, owners, live, time=time)


def _clashes(live: Object, fields: Mapping[_Path, object], owners: _Owners) -> _Owners:
    present = _leaves(live)
    found = {}
    for key, paths in owners.items():
        hit = {path for path in paths & fields.keys() if present.get(path, ...) != fields[path]}
        if hit:
            found[key] = hit
    return found


def _apply_conflict(clashes: _Owners, name: str) -> Refused:
    causes, lines = [], []
    for (manager, _), paths in sorted(clashes.items()):
        dotted = ["." + ".".join(path) for path in sorted(paths)]
        said = f'conflict with "{manager}" using v1'
        causes += [Cause(field, "FieldManagerConflict", said) for field in dotted]
        if len(dotted) == 1:
            lines.append(f"{said}: {dotted[0]}")
        else:
            each = "".join(f"\n- {field}" for field in dotted)
            lines.append(f'conflicts with "{manager}" using v1:{each}')
    noun = "conflict" if len(causes) == 1 else "conflicts"
    message = f"Apply failed with {len(causes)} {noun}: " + "\n".join(lines)
    details = {"name": name, "causes": [cause.shown() for cause in causes]}
    return Refused(Reply(409, failure(409, message, details=details)))


def _leaves(found: Object, at: _Path = ()) -> dict[_Path, object]:
    result: dict[_Path, object] = {}
    for name, value in found.items():
        path = (*at, name)
        if path in _SYSTEM or path in {("status",), ("metadata", "managedFields")}:
            continue
        if isinstance(value, dict):
            result.update(_leaves(value, path))
        elif value is not None:
            result[path] = value
    return result


def _set(result: Object, path: _Path, value: object) -> None:
    at = result
    for name in path[:-1]:
        inner = at.get(name)
        if not isinstance(inner, dict):
            inner = at[name] = {}
        at = inner
    at[path[-1]] = value


def _remove(result: Object, path: _Path) -> None:
    at = result
    for name in path[:-1]:
        at = as_mapping(at.get(name))
    at.pop(path[-1], None)


def _owners(live: Object) -> _Owners:
    found: _Owners = {}
    entries = as_mapping(live.get("metadata")).get("managedFields")
    for entry in entries if isinstance(entries, list) else []:
        key = (entry["manager"], entry["operation"])
        found[key] = _paths(entry["fieldsV1"])
    return found


def _paths(fields: Object, at: _Path = ()) -> set[_Path]:
    found = set()
    for name, inner in fields.items():
        if name == ".":
            continue
        path = (*at, name.removeprefix("f:"))
        nested = as_mapping(inner)
        found |= _paths(nested, path) if nested else {path}
    return found


def _owned(new: Object, owners: _Owners, live: Object | None, *, time: str) -> Object:
    """Return *new* with *owners* written down; an entry that stays keeps its time."""
    result = dict(new)
    before = as_mapping((live or {}).get("metadata")).get("managedFields")
    kept = {
        (entry["manager"], entry["operation"]): entry
        for entry in (before if isinstance(before, list) else [])
    }
    entries = []
    for (manager, operation), paths in owners.items():
        if not paths:
            continue
        fields: Object = {}
        for path in sorted(paths):
            at = fields
            for name in path[:-1]:
                inner = at.setdefault(f"f:{name}", {".": {}} if name != "metadata" else {})
                at = as_mapping(inner)
            at[f"f:{path[-1]}"] = {}
        old = kept.get((manager, operation))
        if old is not None and old["fieldsV1"] == fields:
            entries.append(old)
            continue
        entries.append(
            {
                "manager": manager,
                "operation": operation,
                "apiVersion": new.get("apiVersion"),
                "time": time,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
        )
    result["metadata"] = as_mapping(result.get("metadata")) | {"managedFields": entries}
    return result
