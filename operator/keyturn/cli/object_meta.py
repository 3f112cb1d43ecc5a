"""The metadata that the API server accepts."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyturn.api.target import LABEL_NAME, LabelValue
from keyturn.api.token_request import with_path

_Name = Annotated[str, Meta(max_length=317, pattern=LABEL_NAME)]


class _ObjectMeta(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[_Name, LabelValue] = {}
    annotations: dict[_Name, str] = {}
    finalizers: list[str] = []
    owner_references: list[dict[str, Any]] = []
    # Written by the API server and shown by `kubectl get -o yaml`.
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int = 0
    managed_fields: list[dict[str, Any]] = []


class _Object(msgspec.Struct):
    metadata: _ObjectMeta


def metadata_error(metadata: object) -> str:
    """Return why the API server would reject this metadata, with the path of the field, or ""."""
    try:
        msgspec.convert({"metadata": metadata}, _Object)
    except msgspec.ValidationError as error:
        return with_path(str(error))
    return ""
