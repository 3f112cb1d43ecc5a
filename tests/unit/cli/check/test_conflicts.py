import re
from pathlib import Path
from typing import Any

from keyturn.cli.documents import dump_document
from tests.support.cases import cases
from tests.support.cli import run_keyturn
from tests.support.dependencies import REFRESH, manifest
from tests.support.manifests.parts import secret_at, with_source_token, with_user_keys
from tests.support.manifests.tokens import center

TARGET: dict[str, Any] = {"target": {"secretName": "aws"}}
REFRESHES: dict[str, Any] = {"exchanges": [REFRESH]}


def findings(*bodies: dict[str, Any]) -> list[str]:
    result = run_keyturn("check", "-f", "-", stdin="".join(map(dump_document, bodies)))
    lines = [re.sub(r"-:\d+([) ])", r"-:LINE\1", line) for line in result.stdout.splitlines()]
    return [line.partition(" error: ")[2] for line in lines]


@cases(
    "first, second, finding",
    {
        "two targets": (
            manifest("a", **TARGET),
            manifest("b", **TARGET),
            "TokenRequest/a (-:LINE) writes Secret aws: choose another Secret (at spec.target.secretName)",
        ),
        "the default target": (
            manifest("a", target={"secretName": "b"}),
            manifest("b"),
            "TokenRequest/a (-:LINE) writes Secret b: choose another Secret (at metadata.name)",
        ),
        "a target of an invalid TokenRequest": (
            manifest("a", region=None, **TARGET),
            manifest("b", **TARGET),
            "TokenRequest/a (-:LINE) writes Secret aws: choose another Secret (at spec.target.secretName)",
        ),
        "the tokens of two sources": (
            manifest("a", **REFRESHES, **with_source_token(saveTo={"secretName": "t"})),
            manifest("b", **REFRESHES, source={"token": {**secret_at("other"), "saveTo": {"secretName": "t"}}}),
            "TokenRequest/a (-:LINE) stores another token in Secret t: choose another Secret (at spec.source.token)",
        ),
        "the token of one source in two Secrets": (
            manifest("a", **REFRESHES, **with_source_token(saveTo={"secretName": "t"})),
            manifest("b", **REFRESHES),
            (
                "TokenRequest/a (-:LINE) stores the token of this source in another Secret: use t in both"
                " (at spec.source.token)"
            ),
        ),
        "two authorization codes of one Secret": (
            manifest("a", **with_user_keys(*center(codeFrom=secret_at("sign-in", "a"))["exchanges"])),
            manifest("b", **with_user_keys(*center(codeFrom=secret_at("sign-in", "b"))["exchanges"])),
            (
                "TokenRequest/a (-:LINE) stores another token in Secret sign-in-keyturn: choose another Secret"
                " (at spec.exchanges)"
            ),
        ),
        "a target that is a token Secret": (
            manifest("a", **REFRESHES),
            manifest("b", source=None, target={"secretName": "license-keyturn"}),
            (
                "TokenRequest/a (-:LINE) stores another token in Secret license-keyturn: choose another Secret"
                " (at spec.target.secretName)"
            ),
        ),
        "a token Secret that is a target": (
            manifest("license-keyturn", source=None),
            manifest("b", **REFRESHES),
            (
                "TokenRequest/license-keyturn (-:LINE) writes Secret license-keyturn: choose another Secret"
                " (at spec.source.token)"
            ),
        ),
        "one name": (
            manifest("a"),
            manifest("a", target={"secretName": "b"}),
            "TokenRequest/a is defined twice (before at -:LINE): rename one of them (at metadata.name)",
        ),
    },
)
def test_two_token_requests_with_one_secret_conflict(
    first: dict[str, Any], second: dict[str, Any], finding: str
) -> None:
    conflicts = [line for line in findings(first, second) if "missing" not in line]

    assert conflicts == [f"TokenRequest/{second['metadata']['name']}: {finding}"]


@cases(
    "first, second",
    {
        "two namespaces": (manifest("a", **TARGET), manifest("b", "shop", **TARGET)),
        "the token of one source": (manifest("a", **REFRESHES), manifest("b", **REFRESHES)),
        "a source that is a target": (manifest("a", target={"secretName": "license"}, source=None), manifest("b")),
        "token Secrets that are not used": (
            manifest("a", **with_source_token(saveTo={"secretName": "t"})),
            manifest("b", source={"token": {**secret_at("other"), "saveTo": {"secretName": "t"}}}),
        ),
        "a misspelled target": (manifest("aws", target={"secretname": "b"}), manifest("b", **TARGET)),
        "two generated names": tuple(manifest() | {"metadata": {"generateName": "a"}} for _ in range(2)),
    },
)
def test_token_requests_with_different_secrets_do_not_conflict(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert not [line for line in findings(first, second) if "another Secret" in line or "twice" in line]


def test_one_token_request_in_two_files_is_no_conflict(tmp_path: Path) -> None:
    for cluster in ("test", "production"):
        source = with_source_token(saveTo={"secretName": cluster})
        (tmp_path / f"{cluster}.yaml").write_text(dump_document(manifest(**TARGET, **REFRESHES, **source)))

    assert run_keyturn("check", *map(str, tmp_path.iterdir())).stdout == ""
