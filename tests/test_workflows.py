"""The GitHub workflows: no job that can sign runs what was downloaded from a package registry."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn import __version__
from tools.executable import PLATFORMS
from tools.test_matrix import PARTS

ROOT = Path(__file__).parents[1]
# Programs that install packages, or that run what was installed.
INSTALLERS = re.compile(
    r"\b(make|pip|pipx|uv|uvx|npm|npx|go|cargo|apt|apt-get|curl|wget|python3?)\b|\.venv|setup-(python|node|go)\b"
)


def jobs() -> dict[str, dict[str, Any]]:
    return {
        f"{path.name}: {name}": job
        for path in sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
        for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    }


SIGNING_JOBS = {name: job for name, job in jobs().items() if (job.get("permissions") or {}).get("id-token") == "write"}


def test_only_these_jobs_can_sign() -> None:
    assert set(SIGNING_JOBS) == {f"release.yaml: {name}" for name in ("image", "chart", "files", "pypi", "docs")}


@pytest.mark.parametrize("name", SIGNING_JOBS)
def test_job_that_can_sign_installs_nothing(name: str) -> None:
    steps = [f"{step.get('uses', '')} {step.get('run', '')}" for step in SIGNING_JOBS[name]["steps"]]

    assert [step for step in steps if INSTALLERS.search(step)] == []


def test_only_the_image_build_that_can_sign_reads_the_repository() -> None:
    readers = {
        name for name, job in SIGNING_JOBS.items() for step in job["steps"] if "checkout" in step.get("uses", "")
    }

    assert readers == {"release.yaml: image"}


@pytest.mark.parametrize(("tag", "is_released"), [(f"v{__version__}", True), ("v9.9.9", False)])
def test_tag_must_match_the_version(tag: str, tmp_path: Path, *, is_released: bool) -> None:
    [script] = [step["run"] for step in jobs()["release.yaml: build"]["steps"] if step.get("id") == "version"]
    variables = os.environ | {"GITHUB_REF_NAME": tag, "GITHUB_OUTPUT": str(tmp_path / "output")}
    result = subprocess.run(["bash", "-e", "-c", script], cwd=ROOT, env=variables, check=False)

    assert (result.returncode == 0) == is_released
    assert not is_released or (tmp_path / "output").read_text() == f"version={__version__}\n"


def test_ci_runs_every_part_of_the_matrix() -> None:
    assert sorted(jobs()["ci.yaml: matrix"]["strategy"]["matrix"]["part"]) == sorted(PARTS)


def test_executables_are_built_for_every_platform() -> None:
    matrix = jobs()["executables.yaml: build"]["strategy"]["matrix"]["include"]

    assert sorted(entry["platform"] for entry in matrix) == sorted(PLATFORMS)
