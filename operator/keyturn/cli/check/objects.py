"""The manifests in files, and the errors of each TokenRequest and Pod alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from keyturn.api.base import GROUP, InvalidSpecError, matching, without_nulls
from keyturn.api.metadata import LABEL_NAME, LABEL_WORDS, LabelValue
from keyturn.api.token_request import KIND, Request, TokenRequest, parse
from keyturn.api.validation import Problem, missing_field
from keyturn.cli.check.field_errors import child_path, field_errors
from keyturn.cli.documents import Document, UnreadableError
from keyturn.core.pods.manifest import Pod, PodMeta, template_path

# Kubernetes' own TokenRequest, the token subresource of a ServiceAccount.
_OTHER_TOKEN_REQUESTS = ("authentication.k8s.io/v1",)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object in a document, at a path such as items[0], which is empty unless the document is a list."""

    document: Document = field(repr=False)
    path: str
    body: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Kind and name, such as TokenRequest/acme."""
        name = self.meta.get("name") or self.meta.get("generateName") or ""
        return f"{self.body.get('kind', '')}/{name}".strip("/")

    @property
    def meta(self) -> Mapping[str, Any]:
        """The metadata, which may be invalid."""
        meta = self.body.get("metadata")
        return meta if isinstance(meta, dict) else {}

    @property
    def is_token_request(self) -> bool:
        """Whether it is a TokenRequest, even a misspelled one such as kind `Tokenrequest`."""
        version, kind = str(self.body.get("apiVersion")).lower(), str(self.body.get("kind")).lower()
        return version.startswith(f"{GROUP}/") or (kind == KIND.lower() and version not in _OTHER_TOKEN_REQUESTS)

    @property
    def has_pod(self) -> bool:
        """Whether it is a Pod or creates Pods."""
        return template_path(self.body) is not None


_Name = Annotated[str, matching(LABEL_NAME, LABEL_WORDS, max_length=317)]


class ObjectMeta(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The metadata that the API server accepts."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[_Name, LabelValue] = {}
    annotations: dict[_Name, str] = {}
    finalizers: list[str] = []
    owner_references: list[dict[str, Any]] = []
    # The API server writes these, and `kubectl get -o yaml` shows them.
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int = 0
    managed_fields: list[dict[str, Any]] = []


def manifests(document: Document) -> Iterator[Manifest]:
    """Yield the objects of a document. Raises UnreadableError if it contains something else."""
    yield from _manifests(document, "", document.body)


def _manifests(document: Document, path: str, body: Any) -> Iterator[Manifest]:
    if body is None:
        return
    if not isinstance(body, dict):
        raise UnreadableError(document.location, "a manifest must be an object", document.line + 1, 1)
    items = body.get("items")
    if str(body.get("kind")).endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _manifests(document, child_path(path, f"items[{index}]"), item)
    else:
        yield Manifest(document, path, body)


def parse_request(manifest: Manifest) -> tuple[Request | None, list[Problem]]:
    """Parse a TokenRequest as the API server does, which generates a name from metadata.generateName.

    Returns all of its problems, or the TokenRequest if there are none.
    """
    body = without_nulls({name: value for name, value in manifest.body.items() if name != "status"})
    problems = [Problem(missing_field(name), "") for name in ("apiVersion", "kind") if name not in body]
    meta = body.get("metadata", {})
    if isinstance(meta, dict):
        problems += field_errors(ObjectMeta, meta, "metadata")
        if not meta.get("name") and isinstance(prefix := meta.get("generateName"), str) and prefix:
            body |= {"metadata": meta | {"name": f"{prefix[:248]}xxxxx"}}
    problems += field_errors(TokenRequest, body)
    if problems:
        return None, list(dict.fromkeys(problems))
    try:
        return parse(body), []
    except InvalidSpecError as error:
        return None, [problem_of(error.message)]


def problem_of(message: str) -> Problem:
    """Return the problem of a message such as "MESSAGE (at PATH)"."""
    text, _, path = message.removesuffix(")").rpartition(" (at ")
    return Problem(text, path) if text else Problem(message, "")


def pod_problems(manifest: Manifest) -> list[Problem]:
    """Return the problems of the fields that Keyturn reads in a Pod, or in what creates Pods."""
    path = template_path(manifest.body) or ()
    body: Any = without_nulls(manifest.body)
    problems = field_errors(PodMeta, body.get("metadata", {}), "metadata")
    for name in path:
        body = body.get(name, {}) if isinstance(body, dict) else {}
    return list(dict.fromkeys(problems + field_errors(Pod, body, ".".join(path))))
