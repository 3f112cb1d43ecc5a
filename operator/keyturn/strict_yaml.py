"""YAML as Kubernetes reads it: without times, without base 60, and with these as booleans and numbers."""

import re
from typing import Any

import yaml

from keyturn.typed_yaml import TypedLoader

PLAIN = {
    "tag:yaml.org,2002:bool": re.compile(
        r"^(?:y|Y|n|N|[yY]es|YES|[nN]o|NO|[tT]rue|TRUE|[fF]alse|FALSE|[oO]n|ON|[oO]ff|OFF)$"
    ),
    "tag:yaml.org,2002:int": re.compile(r"^[-+]?(?:0b[01_]+|0o[0-7_]+|0[0-7_]*|0x[0-9a-fA-F_]+|[1-9][0-9_]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    "tag:yaml.org,2002:null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "tag:yaml.org,2002:merge": re.compile(r"^<<$"),
}


class KubernetesLoader(TypedLoader):
    """Reads plain scalars as kubectl and the API server do."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute
    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """PyYAML: make a number. Kubernetes knows JSON's numbers, of which 3600.0 and 3.6e3 are integers."""
        value: float = super().construct_yaml_float(node)
        return int(value) if value.is_integer() and abs(value) < _JSON_INTEGERS else value


# From there on JSON has an exponent, which no integer has.
_JSON_INTEGERS = 1e21
KubernetesLoader.add_constructor("tag:yaml.org,2002:float", KubernetesLoader.construct_yaml_float)


for _tag, _pattern in PLAIN.items():
    KubernetesLoader.add_implicit_resolver(_tag, _pattern, None)
