"""Every example is accepted by the real API server, strictly."""

from pathlib import Path

import pytest

from tests.cluster.namespace import Namespace

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_api_server_takes_the_example(namespace: Namespace, example: Path) -> None:
    shown = namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(example))

    assert "created (server dry run)" in shown
