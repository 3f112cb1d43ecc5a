"""The protocols of AWS: JSON 1.1, REST with JSON, and Query, each with the codes that all its services share."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.model import ListShape, Shape, StructureShape

# What every service refuses on its own: JSON code (always 400), Query code, its HTTP status.
_REFUSALS = {
    "invalid": ("ValidationException", "ValidationError", 400),
    "unreadable": ("SerializationException", "MalformedQueryString", 400),
    "unknown operation": ("UnknownOperationException", "InvalidAction", 400),
    "unsigned": ("MissingAuthenticationTokenException", "MissingAuthenticationToken", 403),
    "half signed": ("IncompleteSignatureException", "IncompleteSignature", 400),
    "unknown key": ("UnrecognizedClientException", "InvalidClientTokenId", 403),
    "bad signature": ("InvalidSignatureException", "SignatureDoesNotMatch", 403),
    "expired": ("ExpiredTokenException", "ExpiredToken", 403),
}


class AwsError(Exception):
    """What AWS answers instead of a result; `members` are those that the error's shape has."""

    def __init__(self, code: str, message: str, status: int = 400, **members: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.members = code, message, status, members


@dataclass(frozen=True, slots=True)
class Signed:
    """A request as it came in; header names are lower case."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"


@dataclass(frozen=True)
class _Json:
    content_type: str = "application/x-amz-json-1.1"

    def refusal(self, kind: str, message: str) -> AwsError:
        return AwsError(_REFUSALS[kind][0], message)

    def read(self, _: StructureShape | None, signed: Signed) -> dict[str, Any]:
        try:
            params = json.loads(signed.body)
        except ValueError:
            params = None
        if not isinstance(params, dict):
            raise self.refusal("unreadable", "The body is not a JSON object")
        return params

    def write(self, _operation: str, _shape: Shape | None, answer: dict[str, Any], _id: str) -> bytes:
        # A moment is seconds since 1970 in JSON.
        return json.dumps(answer, default=datetime.timestamp).encode()

    def headers(self, error: AwsError) -> dict[str, str]:
        """Tell the code of an error in a header too, as the REST protocols do."""
        return {"x-amzn-ErrorType": error.code}

    def error(self, error: AwsError, _: str) -> bytes:
        return json.dumps({"__type": error.code, "Message": error.message, **error.members}).encode()


@dataclass(frozen=True)
class _RestJson(_Json):
    """JSON in the body, and members in the query and in headers; refusals of the signature are HTTP 403."""

    content_type: str = "application/json"

    def refusal(self, kind: str, message: str) -> AwsError:
        return AwsError(_REFUSALS[kind][0], message, _REFUSALS[kind][2])

    def read(self, shape: StructureShape | None, signed: Signed) -> dict[str, Any]:
        params = super().read(shape, signed) if signed.body else {}
        query = dict(parse_qsl(urlsplit(signed.url).query, keep_blank_values=True))
        for name, member in shape.members.items() if shape else ():
            place = {"querystring": query, "header": signed.headers}.get(
                member.serialization.get("location", ""), {}
            )
            wire_name = member.serialization.get("name", name)
            if wire_name in place:
                params[name] = _number(member, place[wire_name])
        return params

    def error(self, error: AwsError, _: str) -> bytes:
        told = {"error": error.code, "error_description": error.message, "message": error.message}
        return json.dumps({**told, **error.members}).encode()


@dataclass(frozen=True)
class _Query:
    version: str
    content_type: str = "text/xml"

    def refusal(self, kind: str, message: str) -> AwsError:
        return AwsError(_REFUSALS[kind][1], message, _REFUSALS[kind][2])

    def read(self, shape: StructureShape | None, signed: Signed) -> dict[str, Any]:
        fields = dict(parse_qsl(signed.body.decode(errors="replace"), keep_blank_values=True))
        del fields["Action"]
        if fields.pop("Version", "") != self.version:
            raise self.refusal("unknown operation", "Could not find the operation for this version")
        params = _take(shape, "", fields) if shape else {}
        return {**params, **fields}

    def write(self, operation: str, shape: Shape | None, answer: dict[str, Any], request_id: str) -> bytes:
        result = f"<{operation}Result>{_xml(shape, answer)}</{operation}Result>"
        metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        return self._document(f"{operation}Response", result + metadata)

    def headers(self, _: AwsError) -> dict[str, str]:
        return {}

    def error(self, error: AwsError, request_id: str) -> bytes:
        members = {"Type": "Sender", "Code": error.code, "Message": error.message, **error.members}
        inside = "".join(f"<{name}>{_escaped(text)}</{name}>" for name, text in members.items())
        return self._document("ErrorResponse", f"<Error>{inside}</Error><RequestId>{request_id}</RequestId>")

    def _document(self, name: str, inside: str) -> bytes:
        return f'<{name} xmlns="https://sts.amazonaws.com/doc/{self.version}/">{inside}</{name}>\n'.encode()


def _take(shape: Shape, at: str, fields: dict[str, str]) -> Any:
    """Take what belongs to the shape out of the fields, so that what is left is unknown."""
    if isinstance(shape, StructureShape):
        paths = {name: f"{at}.{name}".lstrip(".") for name in shape.members}
        given = [name for name, path in paths.items() if _has(fields, path)]
        return {name: _take(shape.members[name], paths[name], fields) for name in given}
    if isinstance(shape, ListShape):
        items: list[Any] = []
        while _has(fields, path := f"{at}.member.{len(items) + 1}"):
            items.append(_take(shape.member, path, fields))
        return items
    return _number(shape, fields.pop(at, None))


def _number(shape: Shape, text: str | None) -> Any:
    is_number = shape.type_name in {"integer", "long"} and text and text.lstrip("-").isdecimal()
    return int(text) if is_number and text else text


def _has(fields: dict[str, str], path: str) -> bool:
    return any(key == path or key.startswith(path + ".") for key in fields)


def _xml(shape: Shape | None, value: Any) -> str:
    if isinstance(shape, StructureShape):
        return "".join(f"<{name}>{_xml(shape.members[name], item)}</{name}>" for name, item in value.items())
    if isinstance(shape, ListShape):
        return "".join(f"<member>{_xml(shape.member, item)}</member>" for item in value)
    return _escaped(value.astimezone(UTC).strftime("%FT%TZ") if isinstance(value, datetime) else str(value))


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


Wire = _Json | _RestJson | _Query
WIRES: dict[str, Wire] = {"json": _Json(), "rest-json": _RestJson(), "query": _Query("2011-06-15")}
