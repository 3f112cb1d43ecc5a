"""YAML whose values are what their tags say, each under a name of its own; what is not is told with its place."""

from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml

_TAGS = "tag:yaml.org,2002:"
_MERGE = f"{_TAGS}merge"
_LONGEST_NAME = 63


class TypedLoader(yaml.SafeLoader):
    """Raises a YAMLError also where PyYAML ends in any other: `!!int ''`, `!!bool x`, half a surrogate pair."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - yaml's
        """PyYAML: make the value of a node."""
        try:
            if isinstance(node, yaml.ScalarNode):
                node.value.encode()
            return super().construct_object(node, deep)
        # yaml.YAMLError is none of these.
        except (AttributeError, LookupError, ValueError):
            kind = node.tag.removeprefix(_TAGS)
            raise yaml.constructor.ConstructorError(
                None, None, f"a value that is no !!{kind}, or too long for one", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - yaml's
        """PyYAML: make a mapping. It would take the last of two values of a name, and Kubernetes takes neither."""
        scalars = [it for it, _ in node.value if isinstance(it, yaml.ScalarNode) and it.tag != _MERGE]
        # Not a search for each name: that is hours for a MiB of names.
        if twice := [name for name, times in Counter(it.value for it in scalars).items() if times > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0][:_LONGEST_NAME]!a} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
