"""The pinned requirements and the software bill of materials agree."""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def test_sboms_list_the_requirements_of_the_images() -> None:
    subprocess.run(["make", "sbom"], cwd=ROOT, check=True, capture_output=True)
    for name, requirements in {"sbom": "run", "sbom-sidecar": "sidecar"}.items():
        sbom = json.loads((ROOT / "build" / f"{name}.json").read_text())
        assert {component["name"]: component["version"] for component in sbom["components"]} == pins(requirements)
        assert all(component["externalReferences"][0]["hashes"] for component in sbom["components"])
        assert sbom["metadata"]["component"]["name"] == "keyturn"


def test_images_use_the_versions_that_are_tested() -> None:
    assert pins("sidecar").items() <= pins("run").items() <= pins("dev").items()


def test_executable_uses_the_versions_that_are_tested() -> None:
    run, executable = pins("run"), pins("executable")

    assert {"click", "msgspec", "pyyaml"} <= run.keys() & executable.keys()
    assert all(executable[name] == run[name] for name in run.keys() & executable.keys())


def test_base_image_is_pinned_by_its_digest() -> None:
    """Otherwise, the same commit could become another image later."""
    lines = re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    [base] = {image for image, _ in lines} - {stage for _, stage in lines}

    assert re.fullmatch(r"python:\S+@sha256:[0-9a-f]{64}", base)
