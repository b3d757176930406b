"""From a checked table to a `Secret`: defaults of its kind, fields, and what a kind forbids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, VariableName
from keyturn.manifest import _read
from keyturn.manifest._faults import Faults, named, nearest
from keyturn.manifest._lines import Path
from keyturn.manifest.durations import parse_duration
from keyturn.manifest.kinds import (
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
from keyturn.manifest.model import Secret
from keyturn.manifest.targets import SECRET_KEYS, target_spec

__all__ = ["Settings", "build_secret", "read_settings"]

_SIZES = {
    GenerateFormat.BASE64: "bytes",
    GenerateFormat.HEX: "bytes",
    GenerateFormat.URL: "bytes",
    GenerateFormat.ALPHANUMERIC: "length",
    GenerateFormat.ASCII: "length",
    GenerateFormat.PEM: "bits",
    GenerateFormat.PEM_BASE64: "bits",
}
_KEY_BYTES = frozenset({16, 24, 32, 48, 64})
_KEY_PAIR_FORMATS = frozenset({GenerateFormat.PEM, GenerateFormat.PEM_BASE64})


@dataclass(frozen=True, slots=True)
class Settings:
    """The keys that an environment may override; None where one is not said."""

    priority: Priority | None
    max_age: timedelta | None
    grace: timedelta | None
    strategy: Strategy | None
    required: bool | None
    generate: GenerateSettings | None
    target: Mapping[str, object] | None


def read_settings(
    table: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> Settings:
    """Return what *table* says of a secret of kind *spec*, and tell what the kind forbids."""
    priority = _read.text(table, "priority")
    required = _read.flag(table, "required", default=True) if "required" in table else None
    return Settings(
        priority=Priority(priority) if priority is not None else None,
        max_age=_max_age(table, spec, path, faults),
        grace=_duration(table, "grace", path, faults),
        strategy=_strategy(table, spec, path, faults),
        required=required,
        generate=_generate(table, spec, path, faults),
        target=_target(table, spec, path, faults),
    )


def build_secret(
    name: str, table: Mapping[str, object], owner: str | None, faults: Faults
) -> Secret | None:
    """Return the secret *name* as *table* has it; None where its kind is not known."""
    kind = _read.text(table, "kind")
    if kind is None:
        return None
    path: Path = ("secrets", name)
    spec = kind_spec(SecretKind(kind))
    settings = read_settings(table, spec, path, faults)
    fields = _fields(table, spec, path, faults)
    only = _read.texts(table, "only")
    depends_on = _read.texts(table, "depends_on") or ()
    for key in SECRET_KEYS:
        other = settings.target.get(key) if settings.target else None
        if isinstance(other, str) and other not in depends_on:
            depends_on = (*depends_on, other)
    return Secret(
        name=SecretName(name),
        kind=spec.kind,
        fields=fields,
        purpose=_read.text(table, "purpose") or "",
        owner=_read.text(table, "owner") or owner,
        priority=settings.priority or spec.priority,
        max_age=spec.max_age if settings.max_age is None else settings.max_age,
        grace=spec.grace if settings.grace is None else settings.grace,
        strategy=settings.strategy or (spec.strategies[0] if spec.strategies else None),
        required=settings.required is not False,
        depends_on=tuple(SecretName(n) for n in depends_on),
        identity=_identity(table, spec, fields, path, faults),
        generate=settings.generate or spec.generate,
        only=None if only is None else tuple(EnvironmentName(n) for n in only),
        automatic=_read.flag(table, "automatic", default=True),
        pair=_read.text(table, "pair"),
    )


def _duration(
    table: Mapping[str, object], key: str, path: Path, faults: Faults
) -> timedelta | None:
    text = _read.text(table, key)
    if text is None:
        return None
    span = parse_duration(text)
    if span is None:
        faults.add((*path, key), "is longer than ten years", "write a shorter one")
    return span


def _max_age(
    table: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> timedelta | None:
    span = _duration(table, "max_age", path, faults)
    if span is not None and not span:
        faults.add((*path, "max_age"), "is zero, so every version is overdue", 'write "90d"')
        return None
    if span is not None and spec.human:
        faults.warn(
            (*path, "max_age"),
            f"`{spec.kind}` is a person's: changing it by the calendar makes it weaker "
            "(NIST SP 800-63B-4)",
            "remove `max_age`; change it when it may have leaked",
        )
    return span


def _strategy(
    table: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> Strategy | None:
    text = _read.text(table, "strategy")
    if text is None:
        return None
    strategy = Strategy(text)
    if strategy in spec.strategies:
        return strategy
    if not spec.strategies:
        faults.add((*path, "strategy"), f"`{spec.kind}` has no strategies", "remove it")
        return None
    listed = ", ".join(f"`{each}`" for each in spec.strategies)
    faults.add(
        (*path, "strategy"),
        f"`{strategy}` is no strategy of a `{spec.kind}`",
        f"write one of {listed}",
    )
    return None


def _generate(
    table: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> GenerateSettings | None:
    settings = _read.table(table, "generate")
    if settings is None:
        return None
    here = (*path, "generate")
    if spec.making is Making.NONE:
        message = f"`{spec.kind}` is not generated: whoever issues it supplies it"
        faults.add(here, message, "remove `generate`, or use the kind `generated`")
        return None
    text = _read.text(settings, "format")
    if text is None:
        return None
    form = GenerateFormat(text)
    if (form in _KEY_PAIR_FORMATS) is not (spec.making is Making.RSA):
        fitting = [
            f for f in GenerateFormat if (f in _KEY_PAIR_FORMATS) is not (form in _KEY_PAIR_FORMATS)
        ]
        listed = ", ".join(f"`{f}`" for f in fitting)
        faults.add((*here, "format"), f"`{spec.kind}` cannot be `{form}`", f"write one of {listed}")
        return None
    return _sized(form, settings, spec, here, faults)


def _sized(
    form: GenerateFormat, settings: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> GenerateSettings | None:
    wanted = _SIZES[form]
    for other in ("bytes", "length", "bits"):
        if other != wanted and other in settings:
            message = f"`{form}` is measured in `{wanted}`"
            faults.add((*path, other), message, f"write `{wanted}` instead")
            return None
    size = _read.number(settings, wanted)
    if spec.kind is SecretKind.ENCRYPTION_KEY and (size or 32) not in _KEY_BYTES:
        message = "no cipher takes a key of this size"
        faults.add((*path, wanted), message, "write `bytes = 32`")
        return None
    if spec.kind is SecretKind.ENCRYPTION_KEY and wanted != "bytes":
        message = "an encryption key is a whole number of bytes"
        faults.add((*path, "format"), message, "write `base64`, `hex` or `url`")
        return None
    if size is None:
        default = {"bytes": 32, "length": 40, "bits": 3_072}[wanted]
        if spec.generate is not None and spec.generate.format is form:
            return spec.generate
        return GenerateSettings(form, **{wanted: default})
    return GenerateSettings(form, **{wanted: size})


def _target(
    table: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> Mapping[str, object] | None:
    target = _read.table(table, "target")
    if target is None:
        return None
    known = target_spec(spec.kind).keys
    if not known:
        faults.add((*path, "target"), f"`{spec.kind}` has no target", "remove it")
        return None
    for name in target.keys() - set(known):
        listed = ", ".join(f"`{key}`" for key in known)
        faults.add(
            (*path, "target", name),
            f"the target of a `{spec.kind}` has no such key",
            nearest(name, known, otherwise=f"remove it; there are {listed}"),
        )
    return {name: value for name, value in target.items() if name in known}


def _fields(
    table: Mapping[str, object], spec: KindSpec, path: Path, faults: Faults
) -> Mapping[FieldName, VariableName | None]:
    written = _read.table(table, "fields")
    variable = _read.text(table, "variable")
    if variable is not None:
        return _single_field(variable, written, spec, path, faults)
    fields: dict[FieldName, VariableName | None] = {}
    if written is None or not spec.open_fields:
        fields.update(dict.fromkeys(spec.fields))
    known = (*spec.fields, *spec.optional_fields)
    for name, value in (written or {}).items():
        if not spec.open_fields and name not in known:
            listed = ", ".join(f"`{field}`" for field in known)
            message = f"`{spec.kind}` has no field {named(name)}"
            faults.add((*path, "fields", name), message, f"its fields are {listed}")
            continue
        fields[FieldName(name)] = VariableName(value) if isinstance(value, str) and value else None
    if written is None and "fields" not in table and "variable" not in table:
        faults.warn(
            path,
            "names no variable, so `run` gives it to nobody",
            'write `variable = "NAME"` or `fields = {...}`, or `variable = ""` to mean it',
        )
    return MappingProxyType(fields)


def _single_field(
    variable: str,
    written: Mapping[str, object] | None,
    spec: KindSpec,
    path: Path,
    faults: Faults,
) -> Mapping[FieldName, VariableName | None]:
    here = (*path, "variable")
    if written is not None:
        faults.add(here, "`variable` and `fields` say the same thing", "keep one of them")
    if len(spec.fields) > 1 and variable:
        example = ", ".join(f'{field} = "..."' for field in spec.fields)
        message = f"`{spec.kind}` has several fields"
        faults.add(here, message, f"write `fields = {{ {example} }}`")
    fields: dict[FieldName, VariableName | None] = dict.fromkeys(spec.fields)
    if len(spec.fields) == 1:
        field = VALUE if spec.open_fields else spec.fields[0]
        fields[field] = VariableName(variable) if variable else None
    return MappingProxyType(fields)


def _identity(
    table: Mapping[str, object],
    spec: KindSpec,
    fields: Mapping[FieldName, VariableName | None],
    path: Path,
    faults: Faults,
) -> Mapping[FieldName, str]:
    kept: dict[FieldName, str] = {}
    for name, value in (_read.table(table, "identity") or {}).items():
        field = FieldName(name)
        if field not in fields:
            faults.add((*path, "identity", name), "there is no such field", "name one in `fields`")
        elif not is_identifier(spec.kind, field):
            message = f"field `{field}` is secret, so its value must not stand here"
            faults.add((*path, "identity", name), message, "remove it; `keyturn set` stores it")
        else:
            kept[field] = str(value)
    return MappingProxyType(kept)
