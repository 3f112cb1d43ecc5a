from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.utils import parse_timestamp

from keyturn.exchanges.aws_clients import parse_time

MOMENT = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("2026-11-29T10:00:00Z", id="XML: ISO 8601"),
        pytest.param("2026-11-29T10:00:00.000Z", id="with milliseconds"),
        pytest.param("2026-11-29T12:00:00+02:00", id="with an offset"),
        pytest.param(1795946400, id="JSON: a number"),
        pytest.param(1795946400.0, id="a decimal"),
        pytest.param("1795946400", id="a number in a string"),
        pytest.param("Sun, 29 Nov 2026 10:00:00 GMT", id="RFC 822"),
    ],
)
def test_time_of_a_response_is_that_of_botocore(value: Any) -> None:
    assert parse_time(value) == MOMENT == parse_timestamp(value)


@pytest.mark.parametrize("value", ["", "soon", None, [], float("nan"), 1e300])
def test_what_is_no_time_is_refused_as_by_botocore(value: Any) -> None:
    with pytest.raises((ValueError, RuntimeError)) as expected:
        parse_timestamp(value)
    with pytest.raises(type(expected.value)):
        parse_time(value)
