import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.core.settings import Settings
from keyturn.core.token_family import Intent, TokenFamily, read_family
from keyturn.reconcile.dependencies import PendingTokens
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.standalone.atomic_files import StartupError, locked_directory
from keyturn.standalone.runner import StandaloneEnvironment, StandaloneFiles, holder_name, open_renewal_loop
from tests.support.dependencies import ASSUME_ROLE, NOW, REFRESH, manifest
from tests.support.mounts import names

ENVIRONMENT = StandaloneEnvironment(Settings(), lambda: NOW, lambda: 0.0, PendingTokens(lambda: 0.0))


def files(directory: Path, request: dict[str, Any] | None = None, **paths: str) -> StandaloneFiles:
    """Write a manifest to a directory, and return its path and those of the other files."""
    (directory / "r.yaml").write_text(yaml.safe_dump(request or manifest()))
    return StandaloneFiles(directory / "r.yaml", **{name: directory / path for name, path in paths.items()})


def start(options: StandaloneFiles, *, has_endpoint: bool = False) -> None:
    with open_renewal_loop(options, ENVIRONMENT, CredentialCache(lambda: NOW), has_endpoint=has_endpoint):
        pass


def test_directories_are_created_and_locked(tmp_path: Path) -> None:
    start(files(tmp_path, sources_dir="sources", output_dir="out/write", state_dir="state"), has_endpoint=True)

    assert names(tmp_path / "out" / "write") == names(tmp_path / "state") == ["..lock"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("out/write", "state")] == [0o750, 0o700]
    start(files(tmp_path, output_dir="out/write", state_dir="state"))


@pytest.mark.parametrize("host", ["m\u00fcller", "m\udcffller", "m\n"])
def test_intent_with_any_host_name_can_be_read(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    intent = Intent(holder=holder_name(), consumes="1", start=NOW, give_up_seconds=30)
    family = TokenFamily(source_id="license/token", initial_tokens=("1",), live="1", intent=intent)

    assert read_family(family.encoded()) == family


async def test_metrics_do_not_include_leadership(tmp_path: Path) -> None:
    with open_renewal_loop(files(tmp_path), ENVIRONMENT, CredentialCache(lambda: NOW), has_endpoint=False) as loop:
        text = await loop.exposition()

    assert b"keyturn_build_info" in text
    assert b"keyturn_leader" not in text


INVALID_OPTIONS = {
    "no state": ({"exchanges": [REFRESH, ASSUME_ROLE]}, {}, "consumes the credential in its source.*--state-dir"),
    "a bad manifest": ({"region": 7}, {}, r"r\.yaml: .*\(at spec\.region\)"),
    "nothing to serve": (
        {"target": {"formats": [{"credentialsFile": {}}]}},
        {},
        "one of the formats env and credential",
    ),
    "one directory for two options": (
        {},
        {"output_dir": "one", "state_dir": "one"},
        "--output-dir and --state-dir must be separate directories",
    ),
    "one directory by two paths": (
        {},
        {"sources_dir": "one", "state_dir": "one/."},
        "--sources-dir and --state-dir must be",
    ),
    "state inside output": (
        {},
        {"output_dir": "one", "state_dir": "one/two"},
        "--output-dir and --state-dir must be",
    ),
    "output inside state": (
        {},
        {"output_dir": "one/two", "state_dir": "one"},
        "--output-dir and --state-dir must be",
    ),
    "a file instead of a directory": ({}, {"output_dir": "r.yaml"}, r"r\.yaml cannot be used"),
}


@pytest.mark.parametrize(("spec", "paths", "message"), INVALID_OPTIONS.values(), ids=INVALID_OPTIONS)
def test_unusable_options_are_refused(
    tmp_path: Path, spec: dict[str, Any], paths: dict[str, str], message: str
) -> None:
    options = files(tmp_path, manifest(**spec), **paths)

    with pytest.raises(StartupError) as error:
        start(options, has_endpoint=True)
    assert re.search(message, str(error.value))
    assert names(tmp_path) == ["r.yaml"]


@pytest.mark.parametrize("path", ["output_dir", "state_dir"])
def test_link_to_itself_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(StartupError, match="loop cannot be used"):
        start(files(tmp_path, None, **{path: "loop"}))


@pytest.mark.parametrize("path", ["output_dir", "state_dir"])
def test_directory_of_another_process_is_refused(tmp_path: Path, path: str) -> None:
    with locked_directory(tmp_path / path, 0o700), pytest.raises(StartupError, match="another process uses"):
        start(files(tmp_path, None, **{path: path}))


def test_directory_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "write" / "..data").mkdir(parents=True)

    with pytest.raises(StartupError, match="is not a link created by Keyturn"):
        start(files(tmp_path, output_dir="write"))


def test_startup_removes_leftovers_of_a_crash(tmp_path: Path) -> None:
    for left in ("write/..keyturn-old", "state"):
        (tmp_path / left).mkdir(parents=True)
    (tmp_path / "state" / "..license-keyturn.reserved").touch()
    start(files(tmp_path, output_dir="write", state_dir="state"))

    assert (names(tmp_path / "write"), names(tmp_path / "state")) == (["..lock"], ["..lock"])
