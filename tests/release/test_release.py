"""The files of a release, built by tools.release: their versions, and the chart from its archive."""

import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn import __version__
from tests.support.cluster.chart import CHART, helm
from tests.support.controlplane import ControlPlane
from tools import release
from tools.executable import ARCHIVES

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
ARCHIVE = release.RELEASE / f"keyturn-{__version__}.tgz"


@pytest.fixture(scope="module")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster without the CRD."""
    with ControlPlane.started(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


def chart_file(name: str) -> str:
    with tarfile.open(ARCHIVE) as archive:
        member = archive.extractfile(f"keyturn/{name}")
        assert member
        return member.read().decode()


def test_all_files_of_a_release_are_built() -> None:
    assert {path.name for path in release.RELEASE.iterdir()} == {
        f"keyturn-{__version__}.tgz",
        f"keyturn-{__version__}.tar.gz",
        f"keyturn-{__version__}-py3-none-any.whl",
        "keyturn.dev_tokenrequests.yaml",
        "sbom.json",
        "sbom-sidecar.json",
        "keyturn.yaml",
        "kubectl-keyturn.sha256",
        *(path.name for path in ARCHIVES.iterdir()),
    }
    assert (release.BUILD / "site" / "index.html").is_file()
    assert (release.BUILD / "release-notes.md").read_text()


def test_wheel_has_the_version_and_the_code() -> None:
    with zipfile.ZipFile(release.RELEASE / f"keyturn-{__version__}-py3-none-any.whl") as wheel:
        metadata = wheel.read(f"keyturn-{__version__}.dist-info/METADATA").decode()
        packaged = {name for name in wheel.namelist() if name.startswith("keyturn/")}
    tracked = subprocess.check_output(["git", "ls-files", "operator/keyturn"], cwd=ROOT, text=True).split()

    assert f"\nVersion: {__version__}\n" in metadata
    assert packaged == {name.removeprefix("operator/") for name in tracked}


def test_chart_names_its_own_version_image_and_changes() -> None:
    metadata = yaml.safe_load(chart_file("Chart.yaml"))
    versions = re.findall(r"(?<![\d.])\d+\.\d+\.\d+(?![\w.-])", (CHART / "Chart.yaml").read_text())
    notes = metadata["annotations"]
    images = [image["image"] for image in yaml.safe_load(notes["artifacthub.io/images"])]

    assert set(versions) == {__version__}
    assert images == [f"{release.IMAGE}:{__version__}", f"{release.IMAGE}-sidecar:{__version__}"]
    assert all(change["description"] for change in yaml.safe_load(notes["artifacthub.io/changes"]))
    assert "](../../" not in chart_file("README.md")


def test_chart_renders_from_the_archive_without_values() -> None:
    rendered = helm("template", "keyturn", str(ARCHIVE), "--kube-version=1.36.0", "--set=injection.enabled=true")

    assert f'image: "{release.IMAGE}:{__version__}"' in rendered
    assert f'"image": dyn("{release.IMAGE}-sidecar:{__version__}")' in rendered


def test_lint_reports_nothing_about_the_archive() -> None:
    assert "[" not in helm("lint", "--strict", str(ARCHIVE)).replace("==> Linting", "")


def test_chart_and_crd_install_from_their_files(own_plane: ControlPlane) -> None:
    crd = str(release.RELEASE / "keyturn.dev_tokenrequests.yaml")
    own_plane.kubectl("create", "--dry-run=server", "--validate=strict", "--filename", crd)
    command = ("install", "keyturn", str(ARCHIVE), "--namespace=keyturn", "--create-namespace")
    helm(*command, kubeconfig=own_plane.kubeconfig)
    columns = "--output=custom-columns=:..image,:.metadata.labels.app\\.kubernetes\\.io/version"
    deployment = own_plane.kubectl("get", "deployment/keyturn", "--namespace=keyturn", "--no-headers", columns)

    assert deployment.split() == [f"{release.IMAGE}:{__version__}", __version__]


@pytest.mark.parametrize(("sbom", "pins"), [("sbom.json", "run"), ("sbom-sidecar.json", "sidecar")])
def test_sbom_matches_the_requirements_of_the_image(sbom: str, pins: str) -> None:
    components: list[dict[str, Any]] = json.loads((release.RELEASE / sbom).read_text())["components"]
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements" / f"{pins}.txt").read_text(), re.MULTILINE)

    assert {(it["name"], it["version"]) for it in components} == set(pinned)
