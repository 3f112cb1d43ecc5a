import pytest

from keyturn.cli.check.positions import Position, locate
from keyturn.strict_yaml import compose

TEXT = """spec:
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
    assert locate(compose(TEXT), path) == position


def test_json_has_positions() -> None:
    assert locate(compose('{"a":\n {"b": [1,\n  2]}}'), "a.b[1]") == Position(3, 3, "2")
