"""What is built from what, and by whom."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOWS = {path.stem: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*"))}
ACTION = re.compile(r"uses: +[\w./-]+@[0-9a-f]{40} +# v\d+\.\d+\.\d+$")
PINNED = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def jobs(name: str) -> dict[str, Any]:
    """The jobs of a workflow."""
    found: dict[str, Any] = yaml.safe_load(WORKFLOWS[name])["jobs"]
    return found


def recipe(target: str) -> str:
    """What a target of the Makefile runs."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found
    return found[1]


@each_workflow
def test_an_action_is_named_by_its_commit_for_a_tag_can_be_moved(name: str) -> None:
    lines = [line for line in WORKFLOWS[name].splitlines() if "uses:" in line]

    assert lines
    assert [line for line in lines if not ACTION.search(line)] == []


@each_workflow
def test_a_job_has_the_rights_that_it_names_and_no_others(name: str) -> None:
    writing = {job: [it for it in one["permissions"] if one["permissions"][it] == "write"]
               for job, one in jobs(name).items()}  # fmt: skip

    assert yaml.safe_load(WORKFLOWS[name])["permissions"] == {}
    assert writing.pop("image", ["attestations", "id-token"]) == ["attestations", "id-token"]
    assert set().union(*writing.values()) == set()


def test_ci_runs_what_people_run() -> None:
    assert [step["run"] for step in jobs("ci")["test"]["steps"] if "run" in step] == ["make test"]


def test_a_release_is_tested_first_and_made_for_two_architectures() -> None:
    image = jobs("release")["image"]
    build = next(step for step in image["steps"] if step.get("id") == "build")

    assert image["needs"] == "test"
    assert jobs("release")["test"] == jobs("ci")["test"]
    assert build["with"]["platforms"] == "linux/amd64,linux/arm64"


def test_what_is_attested_is_what_make_writes() -> None:
    attested = next(step["with"] for step in jobs("release")["image"]["steps"] if "attest-sbom" in step.get("uses", ""))

    assert attested["sbom-path"] in recipe("sbom")


def test_the_image_knows_no_architecture() -> None:
    assert not re.search(r"amd64|arm64|x86_64|aarch64|--platform", (ROOT / "Dockerfile").read_text())


def test_the_sbom_lists_what_is_pinned_for_the_image(tmp_path: Path) -> None:
    command = recipe("sbom").replace("$(VENV)", str(Path(sys.executable).parent))
    command = command.replace("build/sbom.json", str(tmp_path / "sbom.json")).replace("mkdir -p build &&", "")
    subprocess.run(["bash", "-euc", command], cwd=ROOT, check=True, capture_output=True)
    listed = json.loads((tmp_path / "sbom.json").read_text())

    assert {(it["name"], it["version"]) for it in listed["components"]} == set(
        PINNED.findall((ROOT / "requirements" / "run.txt").read_text())
    )
    assert all(it["externalReferences"][0]["hashes"] for it in listed["components"])
    assert listed["metadata"]["component"]["name"] == "keyturn"


def test_code_and_workflows_are_scanned_with_each_check() -> None:
    assert {"$(VENV)/bandit", "$(VENV)/zizmor"} <= set(recipe("check").split())


def test_updates_are_looked_for_where_there_is_something() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    folders = [folder for one in updates for folder in one.get("directories", [one.get("directory")])]

    assert [folder for folder in folders if not (ROOT / folder.strip("/")).is_dir()] == []


def test_what_ships_is_pinned_as_it_was_tested() -> None:
    run, dev = (dict(PINNED.findall((ROOT / "requirements" / f"{name}.txt").read_text())) for name in ("run", "dev"))

    assert run.items() <= dev.items()
