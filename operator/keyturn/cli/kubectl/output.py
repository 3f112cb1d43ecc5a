"""Output for programs: JSON and YAML of the types that docs/reference/schemas describes."""

from collections.abc import Sequence

import msgspec

from keyturn.cli.terminal import echo


def write(value: msgspec.Struct | Sequence[msgspec.Struct], output: str, *, in_stream: bool = False) -> None:
    """Write a value as "json" or "yaml". In a stream, JSON is one line and each YAML document starts with `---`."""
    if output == "yaml":
        import yaml  # noqa: PLC0415 - the other outputs do not need it, and importing it takes time

        fields = msgspec.to_builtins(value)
        text = yaml.safe_dump(fields, sort_keys=False, width=120, explicit_start=in_stream).removesuffix("\n")
    else:
        text = msgspec.json.format(msgspec.json.encode(value).decode(), indent=-1 if in_stream else 2)
    echo(*text.split("\n"))
