from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.projected_tokens import ProjectedToken
from keyturn.standalone.source_files import SourceFiles
from tests.support.dependencies import HOUR, NOW, signed

STS = ("sts.amazonaws.com",)
APP = {"sub": "system:serviceaccount:billing:app", "aud": ["sts.amazonaws.com", "other"]}


def token(expires: datetime = NOW + HOUR, **claims: Any) -> str:
    return signed(expires=expires, **(APP | claims))


async def read_token(path: Path | None, audiences: tuple[str, ...] = STS, name: str = "app") -> str:
    return await ProjectedToken(path, SourceFiles(None), lambda: NOW).make_token("default", name, audiences, 3600)


async def test_token_is_reread_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content in (token(), token(aud="sts.amazonaws.com"), token(sub="demo-user")):
        path.write_text(f"{content}\n")

        assert await read_token(path) == content


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        pytest.param(
            token(aud=["https://kubernetes.default.svc"]), "SourceInvalid",
            "has audience https://kubernetes.default.svc, not sts.amazonaws.com: set the audience in",
            id="another audience",
        ),
        pytest.param(token(aud=None), "SourceInvalid", "has audience none, not", id="no audience"),
        pytest.param(
            token(sub="system:serviceaccount:billing:other"), "SourceInvalid",
            "is for system:serviceaccount:billing:other, not", id="another service account",
        ),
        pytest.param(token(NOW), "SourceExpired", "expired at 2026-01-02T03:04:05Z", id="expired"),
        pytest.param("planted", "SourceInvalid", "does not contain a JWT", id="not a JWT"),
        pytest.param("", "SourceNotFound", "is empty", id="empty"),
        pytest.param(None, "SourceNotFound", "does not exist", id="no file"),
    ],
)  # fmt: skip
async def test_unusable_token_is_refused(tmp_path: Path, content: str | None, reason: str, message: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)

    with pytest.raises(RefusedError, match=message) as error:
        await read_token(path)
    assert error.value.reason == reason
    assert "planted" not in error.value.message


async def test_every_requested_audience_is_required(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token())

    assert await read_token(tmp_path / "token", ("other", "sts.amazonaws.com"))
    with pytest.raises(RefusedError, match="not third:"):
        await read_token(tmp_path / "token", ("other", "third"))


async def test_missing_option_is_reported() -> None:
    with pytest.raises(RefusedError, match="--service-account-token-file"):
        await read_token(None)
