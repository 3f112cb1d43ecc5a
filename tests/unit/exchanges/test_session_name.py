import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.exchanges.sts import session_name

NAME = st.from_regex(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        pytest.param("billing", "acme", "billing.acme", id="short: unchanged"),
        pytest.param("a" * 31, "b" * 32, f"{'a' * 31}.{'b' * 32}", id="64 characters: unchanged"),
        pytest.param("a", "b:c", "a.b-c", id="a character that STS refuses"),
    ],
)
def test_session_name(namespace: str, name: str, expected: str) -> None:
    assert session_name(namespace, name) == expected


def test_long_names_stay_different() -> None:
    assert session_name("billing", "a" * 100 + "x") != session_name("billing", "a" * 100 + "y")


@pytest.mark.parametrize(
    ("template", "longest", "expected"),
    [
        pytest.param("{name}.{namespace}.{name}", 64, "acme.billing.acme", id="filled"),
        pytest.param("custom", 64, "custom", id="without placeholders"),
        pytest.param("{namespace}{name}", 10, "b-32deac1f", id="cut, with a hash"),
    ],
)
def test_session_name_from_a_template(template: str, longest: int, expected: str) -> None:
    assert session_name("billing", "acme", template, longest) == expected


def test_name_of_one_character_is_padded() -> None:
    assert session_name("n", "a", "{name}") == "a-"


@given(NAME, NAME)
def test_sts_accepts_every_name(namespace: str, name: str) -> None:
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", session_name(namespace, name), re.ASCII)
