"""Reads YAML as kubectl and the API server do: no timestamps, no sexagesimal numbers, no duplicate keys."""

import itertools
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any, Final, NamedTuple

import yaml

_TAG_PREFIX = "tag:yaml.org,2002:"
_MERGE_TAG = f"{_TAG_PREFIX}merge"
# The types of plain scalars; one that matches no pattern is a string. PyYAML also resolves timestamps and 12:30.
PLAIN_SCALARS = {
    f"{_TAG_PREFIX}bool": re.compile(
        r"^(?:y|Y|n|N|[yY]es|YES|[nN]o|NO|[tT]rue|TRUE|[fF]alse|FALSE|[oO]n|ON|[oO]ff|OFF)$"
    ),
    f"{_TAG_PREFIX}int": re.compile(r"^[-+]?(?:0b[01_]+|0o[0-7_]+|0[0-7_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*)$"),
    f"{_TAG_PREFIX}float": re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    f"{_TAG_PREFIX}null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    _MERGE_TAG: re.compile(r"^<<$"),
}
_MAX_KEY_CHARACTERS = 63
# JSON writes larger numbers with an exponent, which is not an integer.
_MAX_JSON_INTEGER = 1e21
# The most deeply nested manifests, CustomResourceDefinitions, have about 50 levels.
_MAX_DEPTH = 100
# With its aliases expanded, a document may have ten times as many characters, and some more if it is short. Each value
# counts as four more characters, so that empty values count too. Without aliases, a document stays below five times.
_MAX_EXPANSION, _FREE_CHARACTERS, _VALUE_CHARACTERS = 10, 64 * 1024, 4


class YamlError(ValueError):
    """The text is not valid YAML. The message is one line, with the position but without the text itself.

    `line` and `column` count from 1; they are 0 if the position is unknown.
    """

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"{problem} (line {line}, column {column})" if line else problem)
        self.problem: Final = problem
        self.line: Final = line
        self.column: Final = column


def load(text: str) -> Any:
    """Parse a single document. Raises YamlError."""
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader  # nosec B506
    except (yaml.YAMLError, RecursionError) as error:
        raise _yaml_error(error) from None


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a document that `load` accepts, which have the positions of its values."""
    return yaml.compose(text, _StrictLoader)


def load_all_without_aliases(text: str) -> Iterator[Any]:
    """Parse all documents. Raises YamlError, even for a single alias: a few lines of them can expand to gigabytes."""
    try:
        yield from yaml.load_all(text, _NoAliasLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _yaml_error(error) from None


def _yaml_error(error: Exception) -> YamlError:
    if isinstance(error, RecursionError):
        return YamlError("nested too deeply")
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    # Not str(mark), which quotes the line: it may contain a secret.
    position = (mark.line + 1, mark.column + 1) if mark else ()
    return YamlError(" ".join(f"not valid YAML: {problem}".split()), *position)


class _Extent(NamedTuple):
    """The size and depth of a value whose aliases are expanded."""

    characters: int
    depth: int


class _StrictLoader(yaml.SafeLoader):
    """Raises only YAMLError. PyYAML raises other errors for `!!int ''`, `!!bool x` and half a surrogate pair."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute
    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._max_characters = _MAX_EXPANSION * len(text) + _FREE_CHARACTERS
        self._extents: dict[yaml.Node | None, _Extent] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.check_alias(self.peek_event())  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if node not in self._extents:
            self._extents[node] = self._extent(node)
        return node

    def _extent(self, node: Any) -> _Extent:
        """Return the extent of a node, computed from the extents of its children.

        A few lines of nested aliases expand to gigabytes, and a chain of them to any depth. PyYAML shares the values,
        but code that walks them visits each value as often as it is repeated.
        """
        is_scalar, is_mapping = isinstance(node, yaml.ScalarNode), isinstance(node, yaml.MappingNode)
        children = () if is_scalar else itertools.chain(*node.value) if is_mapping else node.value
        extents = [self._extents[child] for child in children]
        characters = _VALUE_CHARACTERS + sum(it.characters for it in extents) + (len(node.value) if is_scalar else 0)
        depth = 1 + max((it.depth for it in extents), default=0)
        if characters > self._max_characters:
            raise yaml.composer.ComposerError(
                None, None, "the aliases (*) expand to more than 10 times the document", node.start_mark
            )
        if depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {_MAX_DEPTH} levels deep", node.start_mark)
        return _Extent(characters, depth)

    def check_alias(self, event: Any) -> None:
        """Refuse an alias of a collection that contains it: code that walks the value would never return."""
        anchored = self.anchors.get(event.anchor)
        if isinstance(anchored, yaml.CollectionNode) and anchored.end_mark is None:
            raise yaml.composer.ComposerError(
                None, None, "an alias refers to a collection that contains it", event.start_mark
            )

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - yaml's
        try:
            if isinstance(node, yaml.ScalarNode):
                node.value.encode()
            return super().construct_object(node, deep)
        except (AttributeError, LookupError, ValueError):
            kind = node.tag.removeprefix(_TAG_PREFIX)
            raise yaml.constructor.ConstructorError(
                None, None, f"the value is not a valid !!{kind} or is too long", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - yaml's
        """Refuse duplicate keys, as Kubernetes does. PyYAML would use the last value."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG]
        # Counted in one pass: searching the list for each key would take hours for a MiB of keys.
        if duplicates := [key for key, count in Counter(it.value for it in keys).items() if count > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"duplicate key {duplicates[0][:_MAX_KEY_CHARACTERS]!a}", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Return an int for 3600.0 and 3.6e3: Kubernetes converts YAML to JSON, where these are integers."""
        value: float = super().construct_yaml_float(node)
        return int(value) if value.is_integer() and abs(value) < _MAX_JSON_INTEGER else value


_StrictLoader.add_constructor(f"{_TAG_PREFIX}float", _StrictLoader.construct_yaml_float)
for _tag, _pattern in PLAIN_SCALARS.items():
    _StrictLoader.add_implicit_resolver(_tag, _pattern, None)


class _NoAliasLoader(_StrictLoader):
    def check_alias(self, event: Any) -> None:
        raise yaml.composer.ComposerError(None, None, "aliases (*) are not allowed here", event.start_mark)


class Position(NamedTuple):
    """Where a field is: line and column of its name, or of the item of a list, from 1. `text` is a scalar's source."""

    line: int
    column: int
    text: str = ""


def locate(root: Any, path: str) -> Position:
    """Return the position of a path such as spec.exchanges[0].oauthToken, or that of the innermost part that exists."""
    node, start, rest = root, root.start_mark, path
    while rest:
        step = _step(node, rest)
        if step is None:
            break
        start, node, rest = step
    is_scalar = isinstance(node, yaml.ScalarNode)
    return Position(start.line + 1, start.column + 1, node.value if is_scalar and not rest else "")


def _step(node: yaml.Node, path: str) -> tuple[yaml.Mark, yaml.Node, str] | None:
    """Return the position and the node of the first part of a path, and the rest of the path."""
    if isinstance(node, yaml.SequenceNode) and path.startswith("["):
        index, _, rest = path[1:].partition("]")
        items = node.value
        return (items[int(index)].start_mark, items[int(index)], rest) if int(index) < len(items) else None
    # The name of an annotation may contain dots: the longest key that the path starts with.
    name = path.removeprefix(".")
    entries = [
        (key, value)
        for key, value in _entries(node)
        if name.startswith(key.value) and name[len(key.value) :][:1] in ("", ".", "[")
    ]
    if not entries:
        return None
    key, value = max(entries, key=lambda entry: len(entry[0].value))
    return key.start_mark, value, name[len(key.value) :]


def _entries(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Yield the entries of a mapping, those that << merges last."""
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    yield from ((key, value) for key, value in entries if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG)
    for key, value in entries:
        if key.tag == _MERGE_TAG:
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _entries(merged)
