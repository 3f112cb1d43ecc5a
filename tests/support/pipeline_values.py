"""What the tests of the formats hold, and Hypothesis' values of it."""

from typing import Any

from hypothesis import strategies as st

from keyturn.core.formats.registry import render
from keyturn.core.pipeline_values import Credentials, PackageEndpoint, PipelineValues, RegistryLogin, Token
from tests.support.dependencies import HOUR, MINUTE, NOW
from tests.support.manifest_text import writing

HOST = "acme-111122223333.d.codeartifact.us-east-1.amazonaws.com"
REGISTRY = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
KEYS = Credentials("ASIA1", "secret/key+", "session==", NOW + HOUR)
LOGIN = RegistryLogin(REGISTRY, "AWS", "cGFzcw==", NOW + 12 * HOUR)
ENDPOINTS = tuple(
    PackageEndpoint(kind, "main", f"https://{HOST}/{kind}/main/") for kind in ("pypi", "npm", "maven", "nuget")
)
HELD = PipelineValues(
    source_token=Token("source"),
    access_token=Token("access==", NOW + 30 * MINUTE),
    id_token=Token("id.token", NOW + 20 * MINUTE),
    credentials=KEYS,
    registry_logins=(LOGIN,),
    package_endpoints=ENDPOINTS,
    principal="arn:aws:sts::111122223333:assumed-role/Reports/me@example.com",
)
TOKENS = st.from_regex(r"[-A-Za-z0-9._~+/]+=*", fullmatch=True)


def rendered(*formats: dict[str, Any], held: PipelineValues = HELD) -> dict[str, str]:
    """The data of a Secret with these formats."""
    return render(writing(*formats), held)
