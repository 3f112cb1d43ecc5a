"""Limits the size of the responses that botocore reads."""

import json
import re
from collections.abc import Iterator
from http.client import LineTooLong
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session
from urllib3.exceptions import HTTPError

from keyturn.core.bounded_json import decode_response
from keyturn.core.errors import drop_frames

# Several times the size of the largest response, which ECR returns with tokens for ten registries. Parsed, XML takes up
# to 36 times as much.
_MAX_BODY_BYTES = 2**17
# With entities or default attributes, 10 KiB of XML can take gigabytes. AWS uses neither. The name of each element and
# attribute is kept with its namespace, which AWS declares only as a default, and in about 50 characters.
_XML_DECLARATION = re.compile(r"<!(?:ENTITY|ATTLIST)|\sxmlns(?!=([\"'])[^\"']{0,100}\1)")
_MAX_HEAD_BYTES = 2**16
_CHUNK_BYTES = 2**16


class BoundedSession:
    """An HTTP session for botocore that reads at most 128 KiB of a body. botocore's own session has no limit."""

    def __init__(self, session: URLLib3Session) -> None:
        self._session = session

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Send a request, and read its response. Raises the errors of botocore."""
        # Without this, the session would read the whole body.
        request.stream_output = True
        response = self._session.send(request)
        try:
            response.raw = _Body(_read(response.raw))
        except (HTTPError, OSError) as error:
            # botocore's retries keep the exception that is raised here, and with it this frame.
            drop_frames(error)
            del response
            raise ConnectionClosedError(endpoint_url=request.url, error=error) from None
        return response

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


class BoundedHead:
    """The status lines and headers before a body, as a file for http.client. Raises LineTooLong after 64 KiB.

    http.client accepts a hundred headers of 64 KiB each, in the response and in each of any number of interim ones.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._remaining = _MAX_HEAD_BYTES

    def readline(self, size: int, /) -> bytes:
        """Read a line."""
        line: bytes = self._file.readline(size)
        self._remaining -= len(line)
        if self._remaining < 0:
            raise LineTooLong("headers")
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Body:
    """A body that was read, with the part of urllib3's response that botocore uses."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


def _read(raw: Any) -> bytes:
    """Read a body. If the connection breaks or times out after a complete JSON object, the object is returned.

    It may contain a token that exists nowhere else.
    """
    body = bytearray()
    try:
        # Not stream(), which loses what it has already read if it fails.
        while len(body) <= _MAX_BODY_BYTES and (chunk := raw.read1(_CHUNK_BYTES)):
            body += chunk
    except (HTTPError, OSError):
        if decode_response(bytes(body)) is None:
            raise
    if len(body) > _MAX_BODY_BYTES:
        raw.close()
        raise OSError(f"the body is larger than {_MAX_BODY_BYTES} bytes")
    # In the encoding in which it is parsed: even as XML, UTF-16 is recognized by its first bytes.
    if _XML_DECLARATION.search(body.decode(json.detect_encoding(body), "replace")):
        raise OSError("the body declares XML entities, attributes or long namespaces")
    return bytes(body)
