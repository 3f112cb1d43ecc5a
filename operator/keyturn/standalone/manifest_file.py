"""A TokenRequest in a file, read as strictly as the API server reads it."""

import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keyturn.api.base import InvalidSpecError, without_nulls
from keyturn.api.token_request import KIND, Request, parse
from keyturn.core.errors import RefusedError
from keyturn.standalone.source_files import Facts, facts, read_text
from keyturn.strict_yaml import YamlError, load_all_without_aliases

_LONGEST_NAME = 63


class ManifestFile:
    """The file, which may change while the process runs. `started` is when that began."""

    def __init__(self, path: Path, started: datetime) -> None:
        self._path = path
        self._started = started
        self._seen: Facts = None

    def read(self) -> Request:
        """Read the one TokenRequest in it; raises RefusedError with one sentence that names file and field.

        Without a uid it has one of its namespace and name, so that it is the same one after a restart. One that
        does not say when it was created is as old as the process: IAM may need some minutes to know its role.
        """
        self._seen = facts(self._path)
        try:
            request = _request(_body(_documents(read_text(self._path))))
        except RefusedError as error:
            named = error.message.startswith(str(self._path))
            raise RefusedError("InvalidSpec", error.message if named else f"{self._path}: {error.message}") from None

        return replace(request, created_at=request.created_at or self._started)

    def has_changed(self) -> bool:
        """Whether it is another file than the one that was read."""
        return facts(self._path) != self._seen


def _documents(text: str) -> list[Any]:
    try:
        return [body for body in load_all_without_aliases(text) if body is not None]
    except YamlError as error:
        raise RefusedError("InvalidSpec", str(error)) from None


def _body(documents: list[Any]) -> dict[str, Any]:
    if len(documents) != 1:
        raise RefusedError("InvalidSpec", f"it must hold one TokenRequest, and it holds {len(documents)} documents")
    [body] = documents
    kind = body.get("kind") if isinstance(body, dict) else None
    if kind != KIND:
        raise RefusedError("InvalidSpec", f"it must hold a TokenRequest, and it holds {_told(kind)}")
    without: dict[str, Any] = without_nulls(body)
    return without


def _told(kind: object) -> str:
    return f"a {kind[:_LONGEST_NAME]!a}" if isinstance(kind, str) else "nothing with a kind"


def _request(body: dict[str, Any]) -> Request:
    about = body.get("metadata")
    if isinstance(about, dict) and not about.get("uid"):
        named = f"keyturn.dev/{about.get('namespace', 'default')}/{about.get('name')}"
        body = body | {"metadata": about | {"uid": str(uuid.uuid5(uuid.NAMESPACE_URL, named))}}
    try:
        return parse(body)
    except InvalidSpecError as error:
        raise RefusedError("InvalidSpec", error.message) from None
    except RecursionError:
        raise RefusedError("InvalidSpec", "it is nested too deep") from None
