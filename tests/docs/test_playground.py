"""The playground makes every example Ready, lets a person sign in, and follows the Helm release."""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import npm
from tests.support.browser import use_browser
from tests.support.cluster.page import run_command
from tests.support.processes import until
from tools.playground.files import owned_file

Run = Callable[[str], str]
INSTALL = "helm upgrade --install keyturn charts/keyturn -n keyturn --create-namespace --set image.repository=keyturn"


@pytest.fixture
def run(playground: Path) -> Run:
    """Run a command in a shell of the playground."""
    return lambda command: run_command(f". {playground}; {command}", os.environ)


@pytest.mark.long
def test_every_example_becomes_ready_and_the_release_is_followed(run: Run) -> None:
    run(f"{INSTALL} && kubectl apply -f examples/")
    run("kubectl wait --for=condition=Ready treq --all --timeout=180s")

    # The chart's config.
    run(f"{INSTALL} --set config.sources.audiences={{other}}")
    until(partial(renews, run, "IdentityNotAllowed"), seconds=60, every=2)

    run("helm uninstall keyturn --namespace keyturn")
    run(INSTALL)
    until(partial(renews, run, "Renewed"), seconds=120, every=2)


def renews(run: Run, reason: str) -> bool:
    """Request a renewal, and return whether the last one ended with a reason."""
    run("kubectl keyturn renew orders-api")
    jsonpath = '{.status.conditions[?(@.type=="Renewed")].reason}'
    return run(f"kubectl get treq orders-api -o jsonpath='{jsonpath}'") == reason


@pytest.mark.long
@pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
def test_person_signs_in(run: Run, playground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = playground.with_suffix(".sign-in.yaml")
    [ca] = re.findall(r'"ca": "(.*?)"', manifest.read_text())
    use_browser(monkeypatch, tmp_path, ca.replace("\\n", "\n"), "demo-user", "secret")
    run(f"{INSTALL} && kubectl apply -f {manifest}")

    assert "signed-in: renewed, valid until" in run("kubectl keyturn login signed-in --yes")


def test_playground_keeps_the_file_of_another_one(tmp_path: Path) -> None:
    file = tmp_path / "build" / "playground.env"
    with owned_file(file, "of the first"):
        second = owned_file(file, "of the second")
        second.__enter__()
    assert file.read_text() == "of the second"

    second.__exit__(None, None, None)
    assert not file.exists()
