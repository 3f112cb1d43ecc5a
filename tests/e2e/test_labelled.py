"""Where the settings ask for it, only Secrets that somebody labelled are sources."""

from pathlib import Path

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator


def test_a_secret_without_the_label(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.token(aws.refresh_token())
    settings = {"sources": {"labelled": True}}
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=settings):
        namespace.apply(token_request())
        assert "sources.labelled" in namespace.turns("acme", "Renewed", "SourceMissing")
        assert aws.recent_calls() == []

        namespace.kubectl("label", "secret", "license", "keyturn.dev/source=true")
        namespace.is_ready("acme")
