"""A TokenRequest in a file, validated as strictly as the API server validates it."""

import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keyturn.api.base import InvalidSpecError, without_nulls
from keyturn.api.token_request import KIND, Request, parse
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import require_content
from keyturn.sidecar.mounted_files import FileFingerprint, file_fingerprint
from keyturn.standalone.source_files import read_text
from keyturn.strict_yaml import YamlError, load_all_without_aliases

_MAX_KIND_CHARACTERS = 63


class ManifestFile:
    """A manifest that may change while the process is running. `started` is the start time of the process."""

    def __init__(self, path: Path, started: datetime) -> None:
        self._path = path
        self._started = started
        self._seen: FileFingerprint | None = None

    def read(self) -> Request:
        """Parse the TokenRequest in the file; raises RefusedError (InvalidSpec) with the file and the field.

        A missing uid is derived from namespace and name, so that it is the same after a restart. A missing
        creationTimestamp defaults to the start time of the process: a new IAM role may take minutes to propagate.
        """
        self._seen = file_fingerprint(self._path)
        try:
            body = _load(require_content(read_text(self._path), str(self._path)))
            metadata = body.get("metadata")
            if isinstance(metadata, dict) and not metadata.get("uid"):
                name = f"keyturn.dev/{metadata.get('namespace', 'default')}/{metadata.get('name')}"
                body |= {"metadata": metadata | {"uid": str(uuid.uuid5(uuid.NAMESPACE_URL, name))}}
            request = parse(body)
        except (RefusedError, InvalidSpecError, YamlError, RecursionError) as error:
            message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            has_path = message.startswith(str(self._path))
            raise RefusedError("InvalidSpec", message if has_path else f"{self._path}: {message}") from None
        return replace(request, created_at=request.created_at or self._started)

    def has_changed(self) -> bool:
        """Whether the file has changed since it was read."""
        return file_fingerprint(self._path) != self._seen


def _load(text: str) -> dict[str, Any]:
    """Return the only object in the text; raises RefusedError, YamlError, RecursionError."""
    documents = [document for document in load_all_without_aliases(text) if document is not None]
    if len(documents) != 1:
        raise RefusedError("InvalidSpec", f"the file must contain one TokenRequest, not {len(documents)} documents")
    [body] = documents
    kind = body.get("kind") if isinstance(body, dict) else None
    if kind != KIND:
        actual = f"a {kind[:_MAX_KIND_CHARACTERS]!a}" if isinstance(kind, str) else "an object without a kind"
        raise RefusedError("InvalidSpec", f"the file must contain a TokenRequest, not {actual}")
    manifest: dict[str, Any] = without_nulls(body)
    return manifest
