from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import RefusedError
from keyturn.standalone.projected_tokens import ProjectedToken
from keyturn.standalone.source_files import Sources
from tests.support.dependencies import HOUR, NOW, signed

STS = ("sts.amazonaws.com",)
APP = {"sub": "system:serviceaccount:billing:app", "aud": ["sts.amazonaws.com", "other"]}


def token(expires: datetime = NOW + HOUR, **claims: Any) -> str:
    return signed(expires=expires, **(APP | claims))


async def made(path: Path | None, audiences: tuple[str, ...] = STS, name: str = "app") -> str:
    return await ProjectedToken(path, Sources(None), lambda: NOW).make_token("default", name, audiences, 3600)


async def test_it_is_read_fresh_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for content in (token(), token(aud="sts.amazonaws.com"), token(sub="demo-user")):
        path.write_text(f"{content}\n")

        assert await made(path) == content


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        pytest.param(
            token(aud=["https://kubernetes.default.svc"]), "SourceInvalid",
            "is for https://kubernetes.default.svc, and not for sts.amazonaws.com: set the audience where",
            id="for somebody else",
        ),
        pytest.param(token(aud=None), "SourceInvalid", "is for nobody, and not", id="for nobody"),
        pytest.param(
            token(sub="system:serviceaccount:billing:other"), "SourceInvalid",
            "is that of system:serviceaccount:billing:other, not", id="another account's",
        ),
        pytest.param(token(NOW), "SourceExpired", "expired at 2026-01-02T03:04:05Z", id="expired"),
        pytest.param("planted", "SourceInvalid", "holds no JWT", id="no token"),
        pytest.param("", "SourceNotFound", "is empty", id="empty"),
        pytest.param(None, "SourceNotFound", "does not exist", id="no file"),
    ],
)  # fmt: skip
async def test_what_is_no_token_for_this(tmp_path: Path, content: str | None, reason: str, says: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)

    with pytest.raises(RefusedError, match=says) as refused:
        await made(path)
    assert refused.value.reason == reason
    assert "planted" not in refused.value.message


async def test_each_audience_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token())

    assert await made(tmp_path / "token", ("other", "sts.amazonaws.com"))
    with pytest.raises(RefusedError, match="and not for third:"):
        await made(tmp_path / "token", ("other", "third"))


async def test_without_a_file_there_is_none() -> None:
    with pytest.raises(RefusedError, match="--service-account-token-file"):
        await made(None)
