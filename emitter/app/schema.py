"""From a plain mapping (a composed configuration) to frozen settings dataclasses.

    settings = build(Settings, {"budget": {"steps": 4000}, "psf": {"kind": "gaussian", "sigma_px": 1.3}})

A field may be a number, a string, a ``Path``, a ``Literal``, a tuple, a dict, one of several of these, or
another dataclass. Where its type is a union of dataclasses, or a dataclass with subclasses, the key ``kind``
chooses the one whose class attribute ``kind`` has that value. Names in the class attribute ``IGNORED`` are passed over:
what a file that programs share says to another of them.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from emitter.core.errors import SettingsError, nearest

T = TypeVar("T")

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
_ACCEPTED: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), Path: (str, Path)}


def build(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """The dataclass ``cls`` (or the one of its kinds that ``mapping["kind"]`` names) from a plain mapping.

    Args:
        cls: a dataclass, or a union of dataclasses that have a ``kind``.
        mapping: settings by name; nested dataclasses as nested mappings.
        where: dotted path of the mapping, which errors begin with.

    Raises:
        SettingsError: an unknown, missing, wrongly typed or out-of-range setting.
    """
    result: T = _convert(cls, mapping, where)
    return result


def to_plain(settings: Any) -> Any:
    """The mapping from which ``build`` makes the same settings again."""
    if is_dataclass(settings):
        kind = getattr(settings, "kind", None)
        plain = {"kind": kind} if isinstance(kind, str) else {}
        return {
            **plain,
            **{field.name: to_plain(getattr(settings, field.name)) for field in fields(settings)},
        }
    if isinstance(settings, Mapping):
        return {key: to_plain(value) for key, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [to_plain(value) for value in settings]
    return str(settings) if isinstance(settings, Path) else settings


def _convert(kind: Any, value: Any, where: str) -> Any:
    """``value`` as the annotated type ``kind``."""
    members = list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]
    if Any in members or (value is None and type(None) in members):
        return value
    classes = [member for member in members if is_dataclass(member)]
    if classes and isinstance(value, Mapping):
        return _convert_dataclass(classes, value, where)
    for member in members:
        origin = get_origin(member) or member
        if origin is tuple and isinstance(value, (list, tuple)):
            return _convert_tuple(member, value, where)
        if origin in (dict, Mapping) and isinstance(value, Mapping):
            item = (get_args(member) or (str, Any))[1]
            return {key: _convert(item, one, _join(where, key)) for key, one in value.items()}
        if origin is Literal and any(value == one and type(value) is type(one) for one in get_args(member)):
            return value
        # A bool is an int to Python, but not to a user.
        if isinstance(value, bool) == (member is bool) and isinstance(value, _ACCEPTED.get(member, bool)):
            return member(value)
    quoted = (
        f", in quotes: '{where}=\"{value}\"'"
        if isinstance(value, int | float) and _takes_text(members)
        else ""
    )
    raise SettingsError(f"{where or 'the configuration'} is {value!r}: give {_describe(kind)}{quoted}")


def _takes_text(members: list[Any]) -> bool:
    return str in members or Path in members


def _convert_tuple(kind: Any, values: Iterable[Any], where: str) -> tuple[Any, ...]:
    values = list(values)
    items = get_args(kind) or (Any, ...)
    if items[-1] is Ellipsis:
        items = (items[0],) * len(values)
    if len(items) != len(values):
        raise SettingsError(f"{where} is {values!r}: give {_describe(kind)}")
    return tuple(_convert(items[i], value, f"{where}[{i}]") for i, value in enumerate(values))


def _convert_dataclass(classes: list[Any], mapping: Mapping[str, Any], where: str) -> Any:
    cls, given = _choose_kind(classes, mapping, where)
    known = {field.name: field for field in fields(cls) if field.init}
    kinds = get_type_hints(cls)
    for name in getattr(cls, "IGNORED", ()):
        given.pop(name, None)
    for name in given:
        if name not in known:
            hint = nearest(_join(where, name), [_join(where, one) for one in known])
            raise SettingsError(f"unknown setting '{_join(where, name)}'" + (hint or _one_of(known)))
    for name, field in known.items():
        if name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(
                f"the setting '{_join(where, name)}' is missing: give {_describe(kinds[name])}"
            )
    values = {name: _convert(kinds[name], value, _join(where, name)) for name, value in given.items()}
    try:
        return cls(**values)
    except SettingsError as error:
        if not where or str(error).startswith(where.rpartition(".")[2]):  # it names its place itself
            raise
        raise SettingsError(f"{where}: {error}") from error


def _choose_kind(classes: list[Any], mapping: Mapping[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """The class that ``mapping["kind"]`` names, and the mapping without a ``kind`` that is no field of it."""
    own = {cls: vars(cls).get("kind") for cls in _with_subclasses(classes)}
    kinds = {kind: cls for cls, kind in own.items() if isinstance(kind, str)}
    given = dict(mapping)
    if not kinds:
        return classes[0], given
    choice = given.get("kind", next(iter(kinds)) if len(kinds) == 1 else None)
    if choice not in kinds:
        name = _join(where, "kind")
        what = f"the setting '{name}' is missing" if choice is None else f"'{name}' cannot be '{choice}'"
        raise SettingsError(what + (nearest(str(choice), kinds) or _one_of(kinds)))
    cls = kinds[choice]
    if all(field.name != "kind" for field in fields(cls)):
        given.pop("kind", None)
    return cls, given


def _with_subclasses(classes: Iterable[Any]) -> list[Any]:
    """The classes and their subclasses, each once."""
    found = [one for cls in classes for one in (cls, *_with_subclasses(cls.__subclasses__()))]
    return list(dict.fromkeys(found))


def _join(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _one_of(names: Iterable[str]) -> str:
    return f": there is {', '.join(names) or 'nothing to set here'}"


def _describe(kind: Any) -> str:
    """What to give for a type, in the user's words."""
    origin, items = get_origin(kind) or kind, get_args(kind)
    if kind is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_describe(item) for item in items))
    if origin is Literal:
        return "one of " + ", ".join(str(item) for item in items)
    if origin is tuple and items and items[-1] is not Ellipsis:
        return f"a list of {len(items)} ({', '.join(_describe(item) for item in items)})"
    if origin is tuple:
        return f"a list, each {_describe(items[0])}" if items else "a list"
    return _SCALARS.get(origin, "settings as 'name: value' pairs")
