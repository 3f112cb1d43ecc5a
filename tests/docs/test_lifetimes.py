"""The advice about refresh tokens that end when they are not used."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.core.pipeline_values import PipelineValues
from tests.support.dependencies import HOUR, environment, request
from tests.support.rotation import RotatingIssuer

PAGE = Path(__file__).parents[2] / "docs" / "exchanges" / "oauth.md"


def advice() -> dict[str, Any]:
    """The spec in the section about lifetimes."""
    section = PAGE.read_text().partition("## Lifetimes")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block
    spec: dict[str, Any] = yaml.safe_load(block[1])
    return spec


class IdleIssuer(RotatingIssuer):
    """Ends an opaque refresh token after 4 hours without use, and does not state that."""

    def __init__(self, used_at: datetime) -> None:
        super().__init__()
        self.used_at, self.pauses = used_at, list[float]()

    def refresh(self, token: str, now: datetime) -> PipelineValues:
        self.pauses.append((now - self.used_at) / HOUR)
        if now - self.used_at > 4 * HOUR:
            self.live = ""
        self.used_at = now
        return super().refresh(token, now)


@pytest.mark.parametrize("rand", [0, 0.5, 0.999])
async def test_advised_renew_before_keeps_a_refresh_token_in_use(rand: float) -> None:
    env = environment("seed")
    env.aws.life, env.rand, env.aws.issuer = 12 * HOUR, rand, IdleIssuer(env.now)
    for _ in range(5):
        outcome = await env.reconcile(request(**advice()))
        assert (outcome.failure, outcome.reason == "") == (None, False)
        env.now = env.issuance().renew

    assert 1 < max(env.aws.issuer.pauses) <= 3
