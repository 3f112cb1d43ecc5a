"""AWS's wire protocols: JSON 1.1, REST JSON and Query, each with the errors that all its services share."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.model import ListShape, Shape, StructureShape

# JSON code (its status is always 400), Query code, status of Query and REST JSON.
_COMMON_ERRORS = {
    "invalid": ("ValidationException", "ValidationError", 400),
    "malformed": ("SerializationException", "MalformedQueryString", 400),
    "unknown operation": ("UnknownOperationException", "InvalidAction", 400),
    "unsigned": ("MissingAuthenticationTokenException", "MissingAuthenticationToken", 403),
    "incomplete signature": ("IncompleteSignatureException", "IncompleteSignature", 400),
    "unknown key": ("UnrecognizedClientException", "InvalidClientTokenId", 403),
    "bad signature": ("InvalidSignatureException", "SignatureDoesNotMatch", 403),
    "expired": ("ExpiredTokenException", "ExpiredToken", 403),
}


class AwsError(Exception):
    """An error response of AWS; `members` are those of the error's shape."""

    def __init__(self, code: str, message: str, status: int = 400, **members: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.members = code, message, status, members


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """An HTTP request; header names are lower case."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"


@dataclass(frozen=True)
class _Json:
    content_type: str = "application/x-amz-json-1.1"

    def common_error(self, kind: str, message: str) -> AwsError:
        return AwsError(_COMMON_ERRORS[kind][0], message)

    def parse(self, _: StructureShape | None, request: IncomingRequest) -> dict[str, Any]:
        try:
            params = json.loads(request.body)
        except ValueError:
            params = None
        if not isinstance(params, dict):
            raise self.common_error("malformed", "The body is not a JSON object")
        return params

    def serialize(self, _operation: str, _shape: Shape | None, output: dict[str, Any], _id: str) -> bytes:
        # JSON timestamps are seconds since 1970.
        return json.dumps(output, default=datetime.timestamp).encode()

    def error_headers(self, error: AwsError) -> dict[str, str]:
        return {"x-amzn-ErrorType": error.code}

    def error(self, error: AwsError, _: str) -> bytes:
        return json.dumps({"__type": error.code, "Message": error.message, **error.members}).encode()


@dataclass(frozen=True)
class _RestJson(_Json):
    content_type: str = "application/json"

    def common_error(self, kind: str, message: str) -> AwsError:
        return AwsError(_COMMON_ERRORS[kind][0], message, _COMMON_ERRORS[kind][2])

    def parse(self, shape: StructureShape | None, request: IncomingRequest) -> dict[str, Any]:
        params = super().parse(shape, request) if request.body else {}
        query = dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))
        locations: dict[str, Mapping[str, str]] = {"querystring": query, "header": request.headers}
        for name, member in shape.members.items() if shape else ():
            values = locations.get(member.serialization.get("location", ""), {})
            wire_name = member.serialization.get("name", name)
            if wire_name in values:
                params[name] = _scalar(member, values[wire_name])
        return params

    def error(self, error: AwsError, _: str) -> bytes:
        body = {"error": error.code, "error_description": error.message, "message": error.message}
        return json.dumps({**body, **error.members}).encode()


@dataclass(frozen=True)
class _Query:
    version: str
    content_type: str = "text/xml"

    def common_error(self, kind: str, message: str) -> AwsError:
        return AwsError(_COMMON_ERRORS[kind][1], message, _COMMON_ERRORS[kind][2])

    def parse(self, shape: StructureShape | None, request: IncomingRequest) -> dict[str, Any]:
        fields = dict(parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True))
        del fields["Action"]
        if fields.pop("Version", "") != self.version:
            raise self.common_error("unknown operation", "Could not find the operation for this version")
        params = _pop_value(shape, "", fields) if shape else {}
        return {**params, **fields}

    def serialize(self, operation: str, shape: Shape | None, output: dict[str, Any], request_id: str) -> bytes:
        result = f"<{operation}Result>{_xml(shape, output)}</{operation}Result>"
        metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        return self._document(f"{operation}Response", result + metadata)

    def error_headers(self, _: AwsError) -> dict[str, str]:
        return {}

    def error(self, error: AwsError, request_id: str) -> bytes:
        members = {"Type": "Sender", "Code": error.code, "Message": error.message, **error.members}
        content = "".join(f"<{name}>{_escape(text)}</{name}>" for name, text in members.items())
        return self._document("ErrorResponse", f"<Error>{content}</Error><RequestId>{request_id}</RequestId>")

    def _document(self, name: str, content: str) -> bytes:
        return f'<{name} xmlns="https://sts.amazonaws.com/doc/{self.version}/">{content}</{name}>\n'.encode()


def _pop_value(shape: Shape, path: str, fields: dict[str, str]) -> Any:
    """Remove the fields of a shape and return its value; the fields that remain in the end are unknown."""

    def is_set(path: str) -> bool:
        return any(key == path or key.startswith(path + ".") for key in fields)

    if isinstance(shape, StructureShape):
        paths = {name: f"{path}.{name}".lstrip(".") for name in shape.members}
        names = [name for name in paths if is_set(paths[name])]
        return {name: _pop_value(shape.members[name], paths[name], fields) for name in names}
    if isinstance(shape, ListShape):
        items: list[Any] = []
        while is_set(item_path := f"{path}.member.{len(items) + 1}"):
            items.append(_pop_value(shape.member, item_path, fields))
        return items
    return _scalar(shape, fields.pop(path, None))


def _scalar(shape: Shape, text: str | None) -> Any:
    is_number = shape.type_name in {"integer", "long"} and text and text.lstrip("-").isdecimal()
    return int(text) if is_number and text else text


def _xml(shape: Shape | None, value: Any) -> str:
    if isinstance(shape, StructureShape):
        return "".join(f"<{name}>{_xml(shape.members[name], item)}</{name}>" for name, item in value.items())
    if isinstance(shape, ListShape):
        return "".join(f"<member>{_xml(shape.member, item)}</member>" for item in value)
    return _escape(value.astimezone(UTC).strftime("%FT%TZ") if isinstance(value, datetime) else str(value))


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


WireProtocol = _Json | _RestJson | _Query
PROTOCOLS: dict[str, WireProtocol] = {"json": _Json(), "rest-json": _RestJson(), "query": _Query("2011-06-15")}
