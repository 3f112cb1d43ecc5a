import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.api.token_request import parse
from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.manifest_file import ManifestFile
from tests.support.dependencies import DAY, NOW, manifest, request

VALID = {key: value for key, value in manifest().items() if key != "metadata"} | {"metadata": {"name": "acme"}}
ALIASES = "a: &a [x,x]\nb: &b [*a,*a]\nkind: TokenRequest\nspec: [*b,*b]\n"


def manifest_file(path: Path, body: Any) -> ManifestFile:
    """Write this text, or this object as YAML, to a file."""
    path.write_text(body if isinstance(body, str) else yaml.safe_dump(body))
    return ManifestFile(path, NOW)


def test_manifest_is_parsed_as_by_the_api_server(tmp_path: Path) -> None:
    body = manifest()

    assert manifest_file(tmp_path / "r.yaml", body).read() == replace(parse(body), created_at=NOW)


def test_missing_uid_is_derived_from_namespace_and_name(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    one, again = manifest_file(path, VALID).read(), manifest_file(path, VALID).read()
    named = manifest_file(path, VALID | {"metadata": {"name": "acme", "namespace": "default"}}).read()
    elsewhere = manifest_file(path, VALID | {"metadata": {"name": "acme", "namespace": "billing"}}).read()

    assert one.uid == again.uid == named.uid != elsewhere.uid
    assert len(one.uid) == 36
    assert one.namespace == "default"


def test_creation_time_defaults_to_the_process_start(tmp_path: Path) -> None:
    path, then = tmp_path / "r.yaml", NOW - DAY
    dated = VALID | {"metadata": {"name": "acme", "creationTimestamp": then.isoformat()}}

    assert (manifest_file(path, VALID).read().created_at, manifest_file(path, dated).read().created_at) == (NOW, then)


def test_null_fields_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    nulls = VALID["spec"] | {"target": None, "renewal": {"renewBefore": None}}

    assert manifest_file(path, VALID | {"spec": nulls}).read().spec.target is None


@pytest.mark.parametrize(
    "plain",
    [pytest.param("2026-01-02T03:04:05Z", id="a timestamp"), pytest.param("12:30", id="a sexagesimal number")],
)
def test_timestamps_and_sexagesimals_are_strings(plain: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(VALID).replace(
        "  name: acme", f"  name: acme\n  annotations: {{keyturn.dev/renew-requested-at: {plain}}}"
    )

    assert manifest_file(tmp_path / "r.yaml", text).read().renew_requested == plain


def spec(**fields: Any) -> dict[str, Any]:
    return VALID | {"spec": VALID["spec"] | fields}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("", "r.yaml is empty", id="an empty file"),
        pytest.param("# nothing\n", "must contain one TokenRequest, not 0 documents", id="only a comment"),
        pytest.param(f"{yaml.safe_dump(VALID)}---\n{yaml.safe_dump(VALID)}", "not 2 documents", id="two documents"),
        pytest.param("[]", "not an object without a kind", id="a list"),
        pytest.param("text", "not an object without a kind", id="a string"),
        pytest.param(VALID | {"kind": "Secret"}, "must contain a TokenRequest, not a 'Secret'", id="another kind"),
        pytest.param(VALID | {"apiVersion": "keyturn.dev/v1"}, "(at apiVersion)", id="another version"),
        pytest.param({"kind": "TokenRequest"}, "missing required field", id="only a kind"),
        pytest.param(VALID | {"spec": None}, "missing required field `spec`", id="no spec"),
        pytest.param(VALID | {"metadata": {}}, "missing required field `name` (at metadata)", id="no name"),
        pytest.param(VALID | {"metadata": "acme"}, "(at metadata)", id="metadata is a string"),
        pytest.param(VALID | {"metadata": {"name": "../acme"}}, "(at metadata.name)", id="a path as name"),
        pytest.param(
            VALID | {"metadata": {"name": "acme", "creationTimestamp": "2026-01-02T03:04:05"}},
            "(at metadata.creationTimestamp)",
            id="a creation time without a time zone",
        ),
        pytest.param(VALID | {"metadata": {"name": "acme", "uid": 7}}, "(at metadata.uid)", id="a number as uid"),
        pytest.param(spec(exchange=[]), "unknown field `exchange` (at spec)", id="a typo"),
        pytest.param(spec(renewal={"renewBefore": "soon"}), "(at spec.renewal.renewBefore)", id="a bad value"),
        pytest.param(spec(region=7), "region must be of type string, not integer (at spec.region)", id="a number"),
        pytest.param(VALID | {1: 2}, "r.yaml: ", id="a number as key"),
        pytest.param(ALIASES, "aliases (*) are not allowed here", id="aliases"),
        pytest.param("{", "not valid YAML: expected the node content", id="not YAML"),
        pytest.param(VALID | {"a\nb\x1b[31m": 1}, r"field `a\x0ab\x1b[31m`", id="a name with control characters"),
    ],
)
def test_invalid_file_is_refused_in_one_line(tmp_path: Path, body: Any, message: str) -> None:
    with pytest.raises(RefusedError) as error:
        manifest_file(tmp_path / "r.yaml", body).read()

    assert error.value.reason == "InvalidSpec"
    assert message in error.value.message
    assert error.value.message.startswith(str(tmp_path / "r.yaml"))
    assert len(error.value.message.splitlines()) == 1


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"r\.yaml does not exist"):
        ManifestFile(tmp_path / "r.yaml", NOW).read()


def test_changes_are_detected(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    file = manifest_file(path, VALID)
    file.read()
    assert not file.has_changed()
    path.unlink()
    assert file.has_changed()
    with pytest.raises(RefusedError):
        file.read()
    assert not file.has_changed()
    manifest_file(path, manifest())

    assert file.has_changed()
    assert file.read() == replace(request(), created_at=NOW)


def test_mounted_config_map_update_is_detected(tmp_path: Path) -> None:
    mounted = AtomicDir(tmp_path)
    mounted.write({"r.yaml": yaml.safe_dump(VALID)})
    file = ManifestFile(tmp_path / "r.yaml", NOW)
    assert file.read().namespace == "default"
    mounted.write({"r.yaml": yaml.safe_dump(manifest())})

    assert file.has_changed()
    assert file.read().namespace == "billing"


def test_parsing_time_is_linear_in_the_number_of_keys(tmp_path: Path) -> None:
    many = yaml.safe_dump(VALID) + "".join(f"k{number}: 1\n" for number in range(12_000))
    started = time.thread_time()
    with pytest.raises(RefusedError, match="unknown field `k0`"):
        manifest_file(tmp_path / "r.yaml", many).read()

    # Takes 0.8 s. Comparing each key with all others took 7 s.
    assert time.thread_time() - started < 4
