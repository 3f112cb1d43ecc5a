"""docs/pods.md tells what the code does."""

import re
from pathlib import Path

import yaml

from keyturn.core.pods import INJECT
from keyturn.core.pods.injection import OWN
from tests.support.pods import CASES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pods.md").read_text()


def test_the_annotation_is_the_one_of_the_example() -> None:
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])  # type: ignore[index]
    example = yaml.safe_load((ROOT / "examples" / "pod-injected.yaml").read_text())

    assert shown["metadata"]["annotations"] == example["metadata"]["annotations"]
    assert list(shown["metadata"]["annotations"]) == [INJECT]


def test_the_names_of_credentials_of_ones_own() -> None:
    listed = PAGE.partition("### Who is left alone")[2].partition("The other containers")[0]

    assert set(re.findall(r"`(AWS_\w+)`", listed)) == set(OWN)


def test_each_of_these_names_has_a_pod_in_the_table() -> None:
    told = {name for case in CASES.values() for name in OWN for says in case.says if f" has {name}," in says}

    assert told == set(OWN)
