"""All errors of an object at once, with the sentences of the operator, which reports only the first one."""

import difflib
from collections.abc import Generator, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

import msgspec

from keyturn.api.base import ARE_RULES_DEFERRED, Rule
from keyturn.api.validation import Problem, missing_field, unknown_field, validation_problem

_MIN_START = 3
# Yields problems, and returns the value, in which an _Unknown replaces what is invalid or missing.
_Building = Generator[Problem, None, Any]


class _UnknownError(Exception):
    """A rule depends on a value that is unknown."""


class _Unknown:
    """Stands for an invalid or missing value: it is set, and everything else about it raises _UnknownError."""

    def _raise(self, *_: object) -> NoReturn:
        raise _UnknownError

    __hash__ = __len__ = __iter__ = __contains__ = __getitem__ = __getattr__ = __str__ = _raise
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = _raise
    # isinstance() asks for it.
    __class__ = property(_raise)

    def __bool__(self) -> bool:
        return True


class _UnknownScalar(_Unknown):
    """Stands for a number or a boolean, which may be false if it is set."""

    __bool__ = _Unknown._raise  # noqa: SLF001


def field_errors(kind: type[msgspec.Struct], value: Any, path: str = "") -> list[Problem]:
    """Return all errors in a JSON value for a type, at paths that start with `path`."""
    token = ARE_RULES_DEFERRED.set(True)
    try:
        return list(_build(kind, value, path))
    finally:
        ARE_RULES_DEFERRED.reset(token)


def child_path(path: str, name: object) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else str(name)


def _build(kind: Any, value: Any, path: str) -> _Building:
    plain = _plain(kind)
    origin = get_origin(plain)
    if isinstance(value, dict) and isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return (yield from _build_struct(plain, value, path))
    if isinstance(value, list) and origin in (tuple, list):
        return (yield from _build_list(kind, value, path))
    if isinstance(value, dict) and origin is dict:
        return (yield from _build_map(kind, value, path))
    return (yield from _convert(kind, value, path))


def _build_struct(kind: type[msgspec.Struct], value: dict[Any, Any], path: str) -> _Building:
    fields, values = _fields(kind), {}
    for key, child in value.items():
        name = key if key in fields else _intended(str(key), [name for name in fields if name not in value])
        if key not in fields:
            if not kind.__struct_config__.forbid_unknown_fields:
                continue
            suggestion = f": did you mean `{name}`?" if name else ""
            yield Problem(unknown_field(str(key)) + suggestion, child_path(path, key))
        if name:
            values[fields[name].name] = yield from _build(fields[name].type, child, child_path(path, key))
    for name, field in fields.items():
        if field.required and field.name not in values:
            yield Problem(missing_field(name), path)
            values[field.name] = _Unknown()
    struct = kind(**values)
    broken = [rule for rule in getattr(kind, "RULES", ()) if _is_broken(rule, struct)]
    for rule in broken:
        yield Problem(rule.message, path)
    # Rules of the parent expect that one member of a union is set.
    return _Unknown() if any(rule.is_of_union for rule in broken) else struct


def _build_list(kind: Any, value: list[Any], path: str) -> _Building:
    # With items of any type: only the length is checked here.
    checked = yield from _convert(_with_arguments(kind, Any, ...), value, path)
    item_kind = get_args(_plain(kind))[0]
    items = []
    for index, child in enumerate(value):
        items.append((yield from _build(item_kind, child, f"{path}[{index}]")))
    return _Unknown() if issubclass(type(checked), _Unknown) else tuple(items)


def _build_map(kind: Any, value: dict[Any, Any], path: str) -> _Building:
    checked = yield from _convert(_with_arguments(kind, Any, Any), value, path)
    for key, child in value.items():
        try:
            msgspec.convert({key: child}, _plain(kind))
        except msgspec.ValidationError as error:
            problem = validation_problem(error, _plain(kind), path)
            yield Problem(problem.message, child_path(path, key))
            checked = _Unknown()
    return checked


def _convert(kind: Any, value: Any, path: str) -> _Building:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem = validation_problem(error, kind, path)
        yield Problem(problem.message, path)
        return _UnknownScalar() if _plain(kind) in (bool, int) else _Unknown()


def _is_broken(rule: Rule, struct: msgspec.Struct) -> bool:
    try:
        return not rule.is_met_by(struct)
    except Exception:  # noqa: BLE001 - a rule may fail if parts of the struct are unknown or break their own rules
        return False


def _intended(key: str, names: list[str]) -> str:
    """Return the field that the user probably meant by a key, or an empty string."""
    spellings, spelling = {_spelling(name): name for name in names}, _spelling(key)
    if matches := difflib.get_close_matches(spelling, spellings, n=1, cutoff=0.75):
        return spellings[matches[0]]
    # Such as pipConf for pip, and ecr for ecrGetAuthorizationToken.
    starts = [it for it in spellings if it.startswith(spelling) or spelling.startswith(it)]
    return spellings[starts[0]] if len(starts) == 1 and len(spelling) >= _MIN_START else ""


def _spelling(name: str) -> str:
    """Return a name without what distinguishes tokenUrl from token_url and token-URL."""
    return name.lower().replace("_", "").replace("-", "")


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _plain(kind: Any) -> Any:
    """Return X for "X or None", and for an X with constraints."""
    for layer in _layers(kind):
        kind = layer
    return kind


def _layers(kind: Any) -> Iterator[Any]:
    while True:
        if get_origin(kind) in (Union, UnionType):
            kind = next(option for option in get_args(kind) if option is not type(None))
        elif get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        else:
            return
        yield kind


def _with_arguments(kind: Any, *arguments: Any) -> Any:
    """Return a list or map type with its constraints, but with other types of items."""
    plain = _plain(kind)
    result = get_origin(plain)[arguments if get_origin(plain) is not list else arguments[0]]
    for layer in (kind, *_layers(kind)):
        if get_origin(layer) is Annotated:
            for constraint in layer.__metadata__:
                result = Annotated[result, constraint]
    return result
