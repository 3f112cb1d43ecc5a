import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.core.settings import Settings
from keyturn.sidecar.credential_cache import Held
from keyturn.standalone.atomic_files import UnusableError, locked
from keyturn.standalone.runner import Around, Files, standalone
from tests.support.dependencies import ASSUME_ROLE, NOW, REFRESH, manifest
from tests.support.mounts import names

AROUND = Around(Settings(), lambda: NOW, lambda: 0.0)


def files(folder: Path, request: dict[str, Any] | None = None, **places: str) -> Files:
    """A manifest in a folder, and the places beside it."""
    (folder / "r.yaml").write_text(yaml.safe_dump(request or manifest()))
    return Files(folder / "r.yaml", **{name: folder / place for name, place in places.items()})


def start(given: Files, *, serves: bool = False) -> None:
    """Start, and end at once."""
    with standalone(given, AROUND, Held(lambda: NOW), serves=serves):
        pass


def test_folders_are_made_for_us_alone_and_left(tmp_path: Path) -> None:
    start(files(tmp_path, sources_dir="sources", output_dir="out/write", state_dir="state"), serves=True)

    assert names(tmp_path / "out" / "write") == names(tmp_path / "state") == ["..lock"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("out/write", "state")] == [0o750, 0o700]
    start(files(tmp_path, output_dir="out/write", state_dir="state"))


def test_a_sidecar_does_not_look_like_an_operator_that_leads(tmp_path: Path) -> None:
    with standalone(files(tmp_path), AROUND, Held(lambda: NOW), serves=False) as renewing:
        told = renewing.exposition()

    assert b"keyturn_build_info" in told
    assert b"keyturn_leader" not in told


BAD = {
    "no state": ({"exchanges": [REFRESH, ASSUME_ROLE]}, {}, "uses up what its source holds.*--state-dir"),
    "a bad manifest": ({"region": 7}, {}, r"r\.yaml: .*\(at spec\.region\)"),
    "nothing to serve": ({"target": {"formats": [{"credentialsFile": {}}]}}, {}, "one of env and credential"),
    "one folder for two": (
        {},
        {"output_dir": "one", "state_dir": "one"},
        "--output-dir and --state-dir must be folders apart",
    ),
    "one folder, told otherwise": (
        {},
        {"sources_dir": "one", "state_dir": "one/."},
        "--sources-dir and --state-dir must be",
    ),
    "the state in what is shown": (
        {},
        {"output_dir": "one", "state_dir": "one/two"},
        "--output-dir and --state-dir must be",
    ),
    "what is shown in the state": (
        {},
        {"output_dir": "one/two", "state_dir": "one"},
        "--output-dir and --state-dir must be",
    ),
    "a file for a folder": ({}, {"output_dir": "r.yaml"}, r"r\.yaml cannot be used"),
}


@pytest.mark.parametrize(("spec", "places", "says"), BAD.values(), ids=BAD)
def test_what_cannot_work_is_refused_at_the_start(
    tmp_path: Path, spec: dict[str, Any], places: dict[str, str], says: str
) -> None:
    given = files(tmp_path, manifest(**spec), **places)

    with pytest.raises(UnusableError) as refused:
        start(given, serves=True)
    assert re.search(says, str(refused.value))
    assert names(tmp_path) == ["r.yaml"]


@pytest.mark.parametrize("place", ["output_dir", "state_dir"])
def test_a_link_that_leads_to_itself(tmp_path: Path, place: str) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(UnusableError, match="loop cannot be used"):
        start(files(tmp_path, None, **{place: "loop"}))


@pytest.mark.parametrize("place", ["output_dir", "state_dir"])
def test_a_folder_that_another_process_works_in(tmp_path: Path, place: str) -> None:
    with locked(tmp_path / place, 0o700), pytest.raises(UnusableError, match="another process works in"):
        start(files(tmp_path, None, **{place: place}))


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "write" / "..data").mkdir(parents=True)

    with pytest.raises(UnusableError, match="is not a link of Keyturn's"):
        start(files(tmp_path, output_dir="write"))


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    for left in ("write/..keyturn-old", "state"):
        (tmp_path / left).mkdir(parents=True)
    (tmp_path / "state" / "..license-keyturn.room").touch()
    start(files(tmp_path, output_dir="write", state_dir="state"))

    assert (names(tmp_path / "write"), names(tmp_path / "state")) == (["..lock"], ["..lock"])
