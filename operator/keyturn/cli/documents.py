"""Manifests in files: read and written as kubectl reads them."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keyturn.strict_yaml import PLAIN_SCALARS, YamlError, load


class UnreadableError(Exception):
    """A file cannot be read, or is not YAML; the message says where."""


class _Dumper(yaml.SafeDumper):
    """Quotes what kubectl would read as something else than a string."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


for _tag, _pattern in PLAIN_SCALARS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)
_Dumper.add_representer(str, _text)
# Times and numbers that another reader of YAML would see.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:timestamp", re.compile(r"^[-+.]?[0-9]"), None)


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a file, counted from 1: its text, and what it says."""

    file: str
    number: int
    text: str = field(repr=False)
    body: Any = field(repr=False)

    @property
    def place(self) -> str:
        """How findings in it begin."""
        return _place(self.file, self.number)


def read_documents(file: str) -> Iterator[Document]:
    """Read the YAML or JSON documents of a file, or of stdin for `-`. Raises UnreadableError."""
    for number, text in enumerate(_split(_read(file)), start=1):
        try:
            body = load(text)
        except YamlError as error:
            raise UnreadableError(f"{_place(file, number)} error: {error}") from None
        yield Document(file, number, text, body)


def written(body: Any) -> str:
    """Write a manifest as a YAML document."""
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"---\n{text}"


def _place(file: str, number: int) -> str:
    return f"{file}, document {number}:"


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UnreadableError(f"{file}: error: {_in_one_line(error)}") from None


def _split(text: str) -> list[str]:
    """Cut before each line of dashes, which in YAML always begins a document. Comments stay with what follows."""
    first, *parts = re.split(r"(?m)^(?=---(?:\s|$))", text)
    whole = [first, *parts] if not parts or not _is_blank(first) else [first + parts[0], *parts[1:]]
    return [part for part in whole if not _is_blank(part)]


def _is_blank(part: str) -> bool:
    lines = (line.partition("#")[0].strip() for line in part.splitlines())
    return not any(line.removeprefix("---") for line in lines)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
