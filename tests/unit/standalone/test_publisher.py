from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.reconcile.issue import IssueContext, issue
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError
from keyturn.standalone.file_store import Target
from keyturn.standalone.publisher import CredentialPublisher, is_servable
from tests.support.dependencies import HOUR, NOW, SECOND, request

EXPIRES = NOW + HOUR
VALUES = PipelineValues(
    access_token=Token("planted-access", EXPIRES),
    credentials=Credentials("ASIA1", "planted-key", "planted-session", EXPIRES),
)
LOOKALIKE = {"template": {"key": "credentials.json", "text": "x"}}


def with_formats(*formats: dict[str, Any]) -> Request:
    return request(target={"formats": list(formats)})


def target(request: Request) -> Target:
    return Target(*issue(request, VALUES, IssueContext("source", None, 1, 0.0, NOW)))


@pytest.mark.parametrize(
    "formats",
    [
        pytest.param([{"env": {}}], id="env"),
        pytest.param([{"credentialProcess": {}}], id="credentialProcess"),
        pytest.param([{"credentialProcess": {"key": "custom"}}], id="another key"),
        pytest.param([{"credentialProcess": {"key": "custom"}}, LOOKALIKE], id="a template with the default key"),
    ],
)
def test_servable_formats_are_published(formats: list[dict[str, Any]]) -> None:
    cache, servable = CredentialCache(lambda: NOW), with_formats(*formats)
    CredentialPublisher(cache, has_endpoint=True).publish(servable, target(servable))

    assert is_servable(servable)
    assert cache.credentials
    assert (cache.credentials.access_key_id, cache.credentials.expires_at) == ("ASIA1", EXPIRES)
    assert b"planted-session" in cache.document()


def test_unservable_target_keeps_the_cached_credentials() -> None:
    cache, servable, unservable = (
        CredentialCache(lambda: NOW),
        with_formats({"env": {}}),
        with_formats({"credentialsFile": {}}),
    )
    publisher = CredentialPublisher(cache, has_endpoint=True)
    publisher.publish(servable, target(servable))
    before = cache.document()
    publisher.publish(unservable, target(unservable))

    assert not is_servable(unservable)
    assert (cache.document(), cache.failure) == (before, "the credentials have no AccessKeyId")


def test_without_an_endpoint_only_the_expiry_is_published() -> None:
    now = [NOW]
    cache, unservable = CredentialCache(lambda: now[0]), with_formats({"credentialsFile": {}})
    CredentialPublisher(cache, has_endpoint=False).publish(unservable, target(unservable))

    assert cache.document() == b""
    now[0] = EXPIRES + SECOND
    with pytest.raises(NoCredentialsError):
        cache.document()


def test_target_without_issuance_record_is_not_published() -> None:
    cache, servable = CredentialCache(lambda: NOW), with_formats({"env": {}})
    CredentialPublisher(cache, has_endpoint=True).publish(servable, Target(None, target(servable).data))

    assert cache.credentials is None
