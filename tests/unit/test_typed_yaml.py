"""What PyYAML ends in any error over."""

from typing import Any

import pytest
import yaml

from keyturn.typed_yaml import TypedLoader


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("!!int ''", "int", id="a number without digits"),
        pytest.param("!!float ''", "float", id="a fraction without digits"),
        pytest.param("!!bool maybe", "bool", id="a boolean that is neither"),
        pytest.param("!!timestamp soon", "timestamp", id="a time that is none"),
        pytest.param("2026-13-45", "timestamp", id="a month that is none"),
        pytest.param("9" * 5000, "int", id="a number that is too long"),
        pytest.param('"\\ud800"', "str", id="half a surrogate pair"),
        pytest.param("{!!bool maybe : 1}", "bool", id="a key"),
    ],
)
def test_what_is_not_what_its_tag_says(text: str, kind: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.load(f"a:\n- {text}\n", TypedLoader)  # noqa: S506 - a SafeLoader

    assert f"no !!{kind}, or too long for one" in str(caught.value)
    assert "line 2, column" in str(caught.value)


def test_a_name_that_is_there_twice() -> None:
    with pytest.raises(yaml.YAMLError, match="'b' is there twice"):
        yaml.load("a:\n  b: 1\n  c: 2\n  b: 3\n", TypedLoader)  # noqa: S506 - a SafeLoader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!str 012", "012"),
        ("!!int '7'", 7),
        ("{<<: {a: 1}, <<: {b: 2}}", {"a": 1, "b": 2}),
        ("{a: [é, 1.5, null, true]}", {"a": ["é", 1.5, None, True]}),
    ],
)
def test_the_rest_is_as_it_was(text: str, value: Any) -> None:
    assert yaml.load(text, TypedLoader) == value  # noqa: S506 - a SafeLoader
