from typing import Any

import pytest

from keyturn.strict_yaml import YamlError, load, load_all_without_aliases


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("12:30", "12:30"),
        ("y", True),
        ("off", False),
        ("0440", 0o440),
        ("1e3", 1000),
        ("3600.0", 3600),
        ("1e21", 1e21),
        ("0o17", 15),
        ("0o", "0o"),
        ("0.5", 0.5),
        ("-7", -7),
        ("null", None),
        ("1.2.3", "1.2.3"),
        ("!!str 012", "012"),
        ("!!int '7'", 7),
        ("{<<: {a: 1}, <<: {b: 2}}", {"a": 1, "b": 2}),
        ("{a: [é, 1.5, null, true]}", {"a": ["é", 1.5, None, True]}),
    ],
)
def test_values_are_read_as_kubectl_reads_them(text: str, value: Any) -> None:
    parsed = load(f"value: {text}\n")["value"]

    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        pytest.param("!!int ''", "int", id="an integer without digits"),
        pytest.param("!!float ''", "float", id="a float without digits"),
        pytest.param("!!bool maybe", "bool", id="a boolean that is neither true nor false"),
        pytest.param("!!timestamp soon", "timestamp", id="a timestamp in words"),
        pytest.param("9" * 5000, "int", id="an integer that is too long"),
        pytest.param('"\\ud800"', "str", id="half a surrogate pair"),
        pytest.param("{!!bool maybe : 1}", "bool", id="an invalid key"),
    ],
)
def test_value_that_contradicts_its_tag_is_refused(text: str, tag: str) -> None:
    with pytest.raises(YamlError, match=rf"not a valid !!{tag} or is too long \(line 2, column \d+\)$"):
        load(f"a:\n- {text}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a:\n  b: 1\n  c: 2\n  b: 3\n", r"duplicate key 'b' \(line 2, column 3\)$", id="a duplicate key"),
        pytest.param("a: &a\n  b: [*a]\n", "an alias refers to a collection that contains it", id="a recursive alias"),
        pytest.param("{", "^not valid YAML: ", id="an open brace"),
        pytest.param("[" * 5000, "^nested too deeply$", id="deep nesting"),
        pytest.param("a: planted: c", r"^not valid YAML: .* \(line 1, column 11\)$", id="a syntax error"),
    ],
)
def test_invalid_document_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(YamlError, match=message) as error:
        load(text)

    assert "\n" not in str(error.value)
    assert "planted" not in str(error.value)


def test_aliases_are_expanded_unless_forbidden() -> None:
    text = "a: &a 1\nb: *a\n"

    assert load(text) == {"a": 1, "b": 1}
    with pytest.raises(YamlError, match=r"aliases \(\*\) are not allowed here"):
        list(load_all_without_aliases(text))


def test_all_documents_are_returned() -> None:
    assert list(load_all_without_aliases("a: 1\n---\n---\nb: 2\n")) == [{"a": 1}, None, {"b": 2}]
