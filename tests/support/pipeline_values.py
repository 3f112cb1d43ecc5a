"""Values that a pipeline provides, the Secret data that formats render from them, and Hypothesis strategies."""

from typing import Any

from hypothesis import strategies as st

from keyturn.core.formats.registry import render
from keyturn.core.pipeline_values import Credentials, PackageEndpoint, PipelineValues, RegistryLogin, Token
from tests.support.dependencies import HOUR, MINUTE, NOW
from tests.support.manifest_text import with_formats

HOST = "acme-111122223333.d.codeartifact.us-east-1.amazonaws.com"
REGISTRY = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
CREDENTIALS = Credentials("ASIA1", "secret/key+", "session==", NOW + HOUR)
LOGIN = RegistryLogin(REGISTRY, "AWS", "cGFzcw==", NOW + 12 * HOUR)
ENDPOINTS = tuple(
    PackageEndpoint(kind, "main", f"https://{HOST}/{kind}/main/") for kind in ("pypi", "npm", "maven", "nuget")
)
VALUES = PipelineValues(
    source_token=Token("source"),
    access_token=Token("access==", NOW + 30 * MINUTE),
    id_token=Token("id.token", NOW + 20 * MINUTE),
    credentials=CREDENTIALS,
    registry_logins=(LOGIN,),
    package_endpoints=ENDPOINTS,
    principal="arn:aws:sts::111122223333:assumed-role/Reports/me@example.com",
)
BEARER_TOKENS = st.from_regex(r"[-A-Za-z0-9._~+/]+=*", fullmatch=True)
SAFE_TEXTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)


def rendered(
    *formats: dict[str, Any], values: PipelineValues = VALUES, region: str | None = "us-east-1"
) -> dict[str, str]:
    """The data of a Secret with these formats."""
    return render(with_formats(*formats, region=region), values)
