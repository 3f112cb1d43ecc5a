"""Reads manifests and the settings of --config, YAML or JSON, as kubectl does, and the proxies of the environment."""

import errno
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import yaml

from keyturn.api.validation import validation_message
from keyturn.cli.terminal import printable
from keyturn.core.proxies import Proxies
from keyturn.core.settings import Settings, parse_settings
from keyturn.sidecar.mounted_files import MAX_SECRET_BYTES, read_regular_file
from keyturn.strict_yaml import PLAIN_SCALARS, YamlError, load

# The rendered chart of a large application, with its CustomResourceDefinitions, has 5 MB.
_MAX_CHARACTERS = 16 * 1024 * 1024


class UnreadableError(Exception):
    """A file cannot be read or is not YAML. The message is the problem, after the location that contains it.

    `line` and `column` are those in the file, from 1; they are 0 if the position is unknown.
    """

    def __init__(self, location: str, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"{location} error: {problem}" + (f" (line {line}, column {column})" if line else ""))
        self.problem: Final = problem
        self.line: Final = line
        self.column: Final = column


class _Dumper(yaml.SafeDumper):
    """Quotes strings that kubectl would parse as another type."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's attribute


for _tag, _pattern in PLAIN_SCALARS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
# Other YAML parsers read these as times or numbers.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:timestamp", re.compile(r"^[-+.]?[0-9]"), None)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file; `number` counts from 1, and `line` is the number of lines before its text."""

    file: str
    number: int
    line: int
    text: str = field(repr=False)
    body: Any = field(repr=False)

    @property
    def location(self) -> str:
        """The prefix of messages about this document."""
        return _location(self.file, self.number)


def read_documents(file: str) -> Iterator[Document]:
    """Read the YAML or JSON documents of a file, or of stdin for `-`. Raises UnreadableError."""
    yield from _parse(file, _read_stream)


def read_settings(path: str | None) -> Settings:
    """Read the settings; None means the defaults. Raises click.BadParameter, which never quotes the file."""
    if path is None:
        return Settings()
    try:
        documents = _parse(path, lambda file: read_regular_file(Path(file), MAX_SECRET_BYTES).decode())
        bodies = [document.body for document in documents]
        if len(bodies) > 1:
            raise click.BadParameter(f"{path}: expected one document, found {len(bodies)}", param_hint="--config")
        return parse_settings(bodies[0] if bodies else None)
    except UnreadableError as error:
        raise click.BadParameter(printable(str(error)), param_hint="--config") from error
    except msgspec.ValidationError as error:
        raise click.BadParameter(
            printable(f"{path}: {validation_message(error, Settings)}"), param_hint="--config"
        ) from error


def read_proxies() -> Proxies:
    """Read the proxies of the environment. Raises click.ClickException, which never quotes a variable."""
    try:
        return Proxies.from_environment(os.environ)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _read_stream(file: str) -> str:
    """Read a file or stdin. A file may be a pipe, as in `keyturn check -f <(helm template .)`."""
    if file == "-":
        # None if the process was started with stdin closed.
        content = sys.stdin.read(_MAX_CHARACTERS + 1) if sys.stdin else ""
    else:
        with Path(file).open(encoding="utf-8") as stream:
            content = stream.read(_MAX_CHARACTERS + 1)
    if len(content) > _MAX_CHARACTERS:
        raise OSError(errno.EFBIG, f"larger than {_MAX_CHARACTERS} characters")
    return content


def _parse(file: str, read: Callable[[str], str]) -> Iterator[Document]:
    try:
        content = read(file)
    except OSError as error:
        message = " ".join((error.strerror or str(error)).split())
        raise UnreadableError(f"{file}:", message) from None
    except UnicodeError:
        raise UnreadableError(f"{file}:", "not text in UTF-8") from None
    # Each `---` line starts a document. Comments stay with the document that follows.
    head, *parts = re.split(r"(?m)^(?=---(?:\s|$))", content)
    documents = [head, *parts] if not parts or not _is_blank(head) else [head + parts[0], *parts[1:]]
    lines = itertools.accumulate((text.count("\n") for text in documents), initial=0)
    numbered = [(line, text) for line, text in zip(lines, documents, strict=False) if not _is_blank(text)]
    for number, (line, text) in enumerate(numbered, start=1):
        try:
            body = load(text)
        except YamlError as error:
            position = (line + error.line, error.column) if error.line else ()
            raise UnreadableError(_location(file, number), error.problem, *position) from None
        yield Document(file, number, line, text, body)


def dump_document(body: Any) -> str:
    """Return a manifest as a YAML document, with a leading `---`."""
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"---\n{text}"


def _location(file: str, number: int) -> str:
    return f"{file}, document {number}:"


def _is_blank(document: str) -> bool:
    lines = (line.partition("#")[0].strip() for line in document.splitlines())
    return not any(line.removeprefix("---") for line in lines)
