import time
from typing import Any

import pytest

from keyturn.strict_yaml import Position, YamlError, compose, load, load_all_without_aliases, locate


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


def bomb(first: str, repeated: str) -> str:
    """Return nine levels of ten aliases: a billion values in less than a kilobyte."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{level}: &a{level} {repeated.format(f'*a{level - 1}')}" for level in range(1, 10)]
    return "\n".join(lines)


TEN = ", ".join(["{0}"] * 10)
CHAIN = "- &a0 []\n" + "".join(f"- &a{level} [*a{level - 1}]\n" for level in range(1, 10_000))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(bomb("x", f"[{TEN}]"), id="lists"),
        pytest.param(bomb("{x: 1}", f"{{{{<<: [{TEN}]}}}}"), id="merge keys"),
        pytest.param(bomb("x", "{{" + ", ".join(f"k{n}: {{0}}" for n in range(10)) + "}}"), id="mappings"),
        pytest.param(f"- &a {'x' * 100_000}\n" + "- *a\n" * 1000, id="a long text"),
        pytest.param(CHAIN, id="a chain"),
    ],
)
def test_aliases_that_repeat_too_much_are_refused_quickly(text: str) -> None:
    start = time.process_time()
    with pytest.raises(YamlError, match=r"the aliases \(\*\) expand to more than 10 times|nested more than 100 levels"):
        load(text)

    assert time.process_time() - start < 10


def test_aliases_of_an_ordinary_manifest_are_expanded() -> None:
    env = "".join(f"  - {{name: NAME_{number}, value: 'value {number}'}}\n" for number in range(100))
    text = f"env: &env\n{env}containers:\n" + "- {name: app, env: *env}\n" * 20

    assert all(len(container["env"]) == 100 for container in load(text)["containers"])


@pytest.mark.parametrize("text", ["- ?\n" * 10_000, "-\n" * 10_000, "[[]" + ",[]" * 10_000 + "]"])
def test_document_of_short_values_needs_no_alias_limit(text: str) -> None:
    assert len(load(text)) in (10_000, 10_001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a:\n  b: 1\n  c: 2\n  b: 3\n", r"duplicate key 'b' \(line 2, column 3\)$", id="a duplicate key"),
        pytest.param("a: &a\n  b: [*a]\n", "an alias refers to a collection that contains it", id="a recursive alias"),
        pytest.param("{", "^not valid YAML: ", id="an open brace"),
        pytest.param("[" * 5000, "^nested too deeply$", id="deep nesting"),
        pytest.param("[" * 101 + "]" * 101, r"nested more than 100 levels deep \(line 1, column 1\)$", id="101 levels"),
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


POSITIONED = """spec:
  # A comment.
  region: 0x10
  steps: &steps
    - a: &a {x: 1}
    -
      b: [1, [2, 3]]
  metadata: {annotations: {keyturn.dev/inject: "acme", keyturn: {dev/inject: 1}}}
  <<: {merged: {y: 2}}
  more: *steps
  copy: {<<: [*a]}
"""


@pytest.mark.parametrize(
    ("path", "position"),
    [
        pytest.param("", Position(1, 1), id="the document"),
        pytest.param("spec.region", Position(3, 3, "0x10"), id="a field, with the text of its value"),
        pytest.param("spec.steps[0].a.x", Position(5, 14, "1"), id="a field in a list"),
        pytest.param("spec.steps[1]", Position(7, 7), id="an item of a list"),
        pytest.param("spec.steps[1].b[1][0]", Position(7, 15, "2"), id="a list in a list"),
        pytest.param("spec.metadata.annotations.keyturn.dev/inject", Position(8, 28, "acme"), id="a name with dots"),
        pytest.param("spec.merged.y", Position(9, 17, "2"), id="a merged field"),
        pytest.param("spec.copy.x", Position(5, 14, "1"), id="a field of a merged alias"),
        pytest.param("spec.more[0].a.x", Position(5, 14, "1"), id="an alias"),
        pytest.param("spec.steps[0].b.c", Position(5, 7), id="a field that is missing"),
        pytest.param("spec.steps[7].b", Position(4, 3), id="an item that is missing"),
        pytest.param("spec.regional", Position(1, 1), id="a longer name"),
    ],
)
def test_position_is_that_of_the_name_or_item(path: str, position: Position) -> None:
    assert locate(compose(POSITIONED), path) == position


def test_json_has_positions() -> None:
    assert locate(compose('{"a":\n {"b": [1,\n  2]}}'), "a.b[1]") == Position(3, 3, "2")
