"""Bounds on rendered data: the API server refuses a Secret over 1 MiB, and building a larger one costs memory."""

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import MAX_VALUE_LENGTH, Credentials, PackageEndpoint, PipelineValues, Token
from tests.support.dependencies import NOW
from tests.support.manifests.parts import template
from tests.support.pipeline_values import CREDENTIALS, HOST, LOGIN, rendered

MIB = 1024 * 1024
LONGEST = "x" * MAX_VALUE_LENGTH
# The longest text that the schema allows, with as many placeholders as fit.
REPEATED = "{{idToken}}" * (16384 // len("{{idToken}}"))
# Six exchanges with ten registries each, all with the longest values.
LOGINS = tuple(replace(LOGIN, host=f"{number}.{LONGEST[10:]}", password=LONGEST) for number in range(60))
LARGEST = PipelineValues(
    access_token=Token(LONGEST, NOW),
    id_token=Token(LONGEST, NOW),
    credentials=Credentials(LONGEST, LONGEST, LONGEST, NOW),
    registry_logins=LOGINS,
    package_endpoints=(PackageEndpoint("pypi", "main", f"https://{HOST}/{LONGEST[100:]}"),),
)


def in_own_keys(text: str, count: int = 8) -> list[dict[str, Any]]:
    return [template(text, f"file-{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("formats", "name"),
    [
        pytest.param(in_own_keys(REPEATED), "template", id="eight templates that repeat a value"),
        pytest.param(
            in_own_keys("{{idToken}}" * 8 + "é" * 16000), "template", id="templates that are too large together"
        ),
        pytest.param([{"dockerConfigJson": {}}], "dockerConfigJson", id="the logins of 60 registries"),
        pytest.param(
            [*in_own_keys("{{idToken}}" * 51, 1), {"token": {}}, {"credentialProcess": {}}],
            "credentialProcess",
            id="other formats after a template",
        ),
    ],
)
def test_data_over_1_mib_is_refused_before_it_is_built(formats: list[dict[str, Any]], name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(
            RefusedError, match=rf"^the format {name} \(key .*\) would increase the Secret to "
        ) as error:
            rendered(*formats, values=LARGEST)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert error.value.reason == "InvalidSpec"
    assert peak < 3 * MIB


def test_data_of_exactly_1_mib_is_rendered() -> None:
    count, rest = divmod(MIB - len("file") - len("expiration") - len("2026-01-02T03:04:05Z"), 16000)
    values, text = replace(LARGEST, id_token=Token("x" * 16000, NOW)), "{{idToken}}" * count + "-" * rest

    data = rendered(template(text), values=values)

    assert sum(len(key + value) for key, value in data.items()) == MIB
    with pytest.raises(RefusedError, match=f"to {MIB + 1} bytes"):
        rendered(template(f"{text}-"), values=values)


def test_ordinary_secret_with_all_formats_is_rendered() -> None:
    values = replace(LARGEST, credentials=CREDENTIALS, registry_logins=LOGINS[:1])

    data = rendered({"env": {}}, {"token": {}}, {"pip": {}}, {"dockerConfigJson": {}}, values=values)

    assert data.keys() > {"token", "pip.conf", ".dockerconfigjson"}
