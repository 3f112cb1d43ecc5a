"""YAML whose values are what their tags say; what is not is told with its place."""

from typing import Any

import yaml

_TAGS = "tag:yaml.org,2002:"


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
