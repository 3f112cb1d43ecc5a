from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.issuance import Issuance
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.reconcile.issue import IssueContext, issue
from keyturn.sidecar.credential_cache import Held, UnservableError
from keyturn.standalone.file_store import Issued
from keyturn.standalone.publisher import Giving, is_servable
from tests.support.dependencies import HOUR, NOW, request

EXPIRES = NOW + HOUR
HOLDING = PipelineValues(
    access_token=Token("planted-access", EXPIRES),
    credentials=Credentials("ASIA1", "planted-key", "planted-session", EXPIRES),
)

LOOKALIKE = {"template": {"key": "credentials.json", "text": "x"}}


def wanted(*formats: dict[str, Any]) -> Request:
    return request(target={"formats": list(formats)})


def issued(wanted: Request) -> Issued:
    return Issued(*issue(wanted, HOLDING, IssueContext("source", None, 1, 0.0, NOW)))


@pytest.mark.parametrize(
    "formats",
    [
        pytest.param([{"env": {}}], id="variables"),
        pytest.param([{"credentialProcess": {}}], id="a credential process"),
        pytest.param([{"credentialProcess": {"key": "mine"}}], id="under another key"),
        pytest.param([{"credentialProcess": {"key": "mine"}}, LOOKALIKE], id="beside what only has the name"),
    ],
)  # fmt: skip
def test_credentials_are_served_in_every_form(formats: list[dict[str, Any]]) -> None:
    held, asked = Held(lambda: NOW), wanted(*formats)
    Giving(held, serves=True).give(asked, issued(asked))

    assert is_servable(asked)
    assert held.served
    assert (held.served.access_key_id, held.served.expires_at) == ("ASIA1", EXPIRES)
    assert b"planted-session" in held.document()


def test_what_cannot_be_served_replaces_nothing() -> None:
    held, good, other = Held(lambda: NOW), wanted({"env": {}}), wanted({"credentialsFile": {}})
    giving = Giving(held, serves=True)
    giving.give(good, issued(good))
    before = held.document()
    giving.give(other, issued(other))

    assert not is_servable(other)
    assert (held.document(), held.trouble) == (before, "the credentials have no AccessKeyId")


def test_without_an_endpoint_readiness_goes_by_the_marks() -> None:
    now = [NOW]
    held, asked = Held(lambda: now[0]), wanted({"credentialsFile": {}})
    Giving(held, serves=False).give(asked, issued(asked))

    assert held.document() == b""
    now[0] = EXPIRES + timedelta(seconds=1)
    with pytest.raises(UnservableError):
        held.document()


def test_data_without_marks_are_nothing() -> None:
    held, asked = Held(lambda: NOW), wanted({"env": {}})
    Giving(held, serves=True).give(asked, Issued(None, issued(asked).data))

    assert held.served is None
    assert isinstance(issued(asked).issuance, Issuance)
