from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct

from keyturn.api.token_request import Request
from keyturn.core.issuance import ADOPTABLE_BY, ISSUANCE_ANNOTATION, MANAGED_BY, OWNER_UID, data_hash
from keyturn.core.state import ReconcileState
from tests.support.dependencies import (
    ACCESS_TOKEN,
    HOUR,
    MINUTE,
    NOW,
    ROLE,
    SECOND,
    FakeEnvironment,
    attempt,
    environment,
    issued,
    request,
    signed,
)
from tests.support.memory_limiter import RecordingMemoryLimiter

RENEWS_AFTER = 40 * MINUTE


async def test_highest_jitter_makes_a_valid_issuance_record() -> None:
    env = environment()
    env.rand = 0.9999
    await env.reconcile(request())

    assert env.issuance().jitter == 0.999


async def test_first_issue_is_dry_run_and_then_written_once() -> None:
    env = environment()

    outcome = await env.reconcile(request())

    assert outcome.reason == "SecretMissing"
    assert env.store.calls == {"read_target": 1, "read_source": 1, "dry_run": 1, "write": 1}
    assert env.aws.calls == ["licenseManagerGetAccessToken", "assumeRoleWithWebIdentity"]


@pytest.mark.parametrize(
    ("format_spec", "namespaces"),
    [({"env": {}}, []), ({"template": {"key": "id", "text": "{{accessKeyId}}"}}, ["billing"])],
)
async def test_templates_are_rendered_in_the_order_of_the_limiter(
    format_spec: dict[str, Any], namespaces: list[str]
) -> None:
    """An issuer could otherwise release its responses to all workers in one iteration of the event loop."""
    env, rendered = environment(), list[str]()
    token_request = request(target={"formats": [format_spec]})

    async def compute(namespace: str, render: Callable[[], Any]) -> Any:
        rendered.append(namespace)
        return render()

    await attempt(replace(env.deps, compute=compute), token_request, ReconcileState())

    assert env.secrets.data("acme")
    assert rendered == namespaces


@pytest.mark.parametrize(("number", "namespaces"), [(2, []), (8, ["billing"])])
async def test_large_secret_holds_a_slot_until_it_is_written(
    number: int, namespaces: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An issuer could otherwise make all workers keep such Secrets in memory at the same time."""
    env, limiter, during_write = environment(), RecordingMemoryLimiter(), list[str]()
    deps = replace(env.deps, memory_limiter=limiter)
    write = deps.store.write

    async def write_with_slot(*args: Any) -> None:
        during_write.extend(limiter.held_now)
        await write(*args)

    text = "{{accessKeyId}} " + "{{principal}}" * 1000
    formats = [{"template": {"key": f"id-{index}", "text": text}} for index in range(number)]
    token_request = request(target={"formats": formats})
    monkeypatch.setattr(env.store, "write", write_with_slot)
    await attempt(deps, token_request, ReconcileState())

    assert env.secrets.data("acme")["id-0"].endswith(ROLE * 1000)
    assert (during_write, limiter.granted, limiter.held_now) == (namespaces, namespaces, [])


async def test_labels_of_a_secret_are_restored_with_a_slot() -> None:
    """The whole Secret is read before."""
    env, limiter = await issued(), RecordingMemoryLimiter()
    env.secrets.put("acme", labels={MANAGED_BY: "keyturn", OWNER_UID: "x"})
    env.now += MINUTE
    await attempt(replace(env.deps, memory_limiter=limiter), request(), env.states[request().uid])

    assert (env.store.calls["apply_metadata"], limiter.granted) == (1, ["billing"])


async def test_written_data_is_the_result_of_the_last_exchange() -> None:
    env = await issued()
    data, issuance = env.secrets.data("acme"), env.issuance()

    assert data["AWS_SECRET_ACCESS_KEY"] == "key-for-access-1"
    assert data["expiration"] == "2026-01-02T04:04:05Z"
    assert (issuance.issued, issuance.expires, issuance.renew) == (NOW, NOW + HOUR, NOW + RENEWS_AFTER)
    assert (issuance.revision, issuance.principal) == (1, ROLE)


async def test_quotes_and_newline_around_the_source_token_are_ignored() -> None:
    env = environment('"refresh-token"\n')
    await env.reconcile(request(exchanges=[ACCESS_TOKEN], target={"formats": [{"token": {}}]}))
    env.secrets.put("license", data={"license_token": "refresh-token"})
    await env.reconcile(request(exchanges=[ACCESS_TOKEN], target={"formats": [{"token": {}}]}), MINUTE)

    assert env.exchanges == 1


async def test_key_that_a_new_release_adds_is_written_at_the_next_renewal() -> None:
    env = await issued()
    data = {key: value for key, value in env.secrets.data("acme").items() if key != "AWS_DEFAULT_REGION"}
    record = replace_struct(env.issuance(), keys=tuple(data), data_hash=data_hash(data, request()))
    await env.secrets.store.write(request(), record, data)
    env.restart()
    upgraded = await env.reconcile(request(), after=MINUTE)
    data_after_upgrade = env.secrets.data("acme")
    renewed = await env.reconcile(request(), after=RENEWS_AFTER)

    assert (upgraded.reason, data_after_upgrade) == ("", data)
    assert (renewed.reason, env.secrets.data("acme")["AWS_DEFAULT_REGION"]) == ("Due", "us-east-1")


@pytest.mark.parametrize(
    ("change", "token_request", "reason"),
    [
        pytest.param(lambda env: env.secrets.delete("acme"), request(), "SecretMissing", id="the Secret was deleted"),
        pytest.param(
            lambda env: env.secrets.put("acme", annotations={ISSUANCE_ANNOTATION: "{}"}),
            request(),
            "IssuanceUnreadable",
            id="the issuance record was edited",
        ),
        pytest.param(lambda _: None, request(region="eu-west-1"), "SpecChanged", id="the spec changed"),
        pytest.param(
            lambda _: None,
            request(target={"formats": [{"env": {}}]}),
            "SpecChanged",
            id="the formats changed",
        ),
        pytest.param(
            lambda env: env.secrets.put("license", data={"license_token": "new"}),
            request(),
            "SourceChanged",
            id="the source token changed",
        ),
        pytest.param(
            lambda env: env.secrets.put("acme", data={"AWS_REGION": "x"}),
            request(),
            "DriftDetected",
            id="a key was edited",
        ),
        pytest.param(
            lambda _: None, replace(request(), renew_requested="now"), "RenewalRequested", id="renewal requested"
        ),
        pytest.param(
            lambda env: setattr(env, "now", NOW + RENEWS_AFTER),
            request(),
            "Due",
            id="the renewal time was reached",
        ),
    ],
)
async def test_each_reason_renews_exactly_once(
    change: Callable[[FakeEnvironment], object], token_request: Request, reason: str
) -> None:
    env = await issued()
    change(env)

    outcomes = [await env.reconcile(token_request, after=10 * SECOND * n) for n in (1, 0, 1, 2)]

    assert [outcome.reason for outcome in outcomes] == [reason, "", "", ""]
    assert (env.exchanges, env.store.calls["write"]) == (2, 1)


async def test_labels_removed_in_a_loop_are_restored_once_a_minute() -> None:
    env = await issued()
    for _ in range(60):
        env.secrets.put("acme", labels={MANAGED_BY: "keyturn", OWNER_UID: "x"})
        await env.reconcile(request(), after=SECOND)

    assert env.store.calls["apply_metadata"] == 1


@pytest.mark.parametrize(
    "token_request",
    [
        pytest.param(request(target={"metadata": {"labels": {"team": "blue"}}}), id="a label"),
        pytest.param(request(target={"metadata": {"annotations": {"note": "x"}}}), id="an annotation"),
        pytest.param(request(target={"deletionPolicy": "Retain"}), id="the deletion policy"),
        pytest.param(request(renewal={"renewBefore": "10m"}), id="the renewal time"),
        pytest.param(request(uid="else-0002"), id="the request was recreated"),
    ],
)
async def test_metadata_change_causes_no_exchange(token_request: Request) -> None:
    env = await issued()
    before = env.secrets.data("acme")
    for _ in range(2):
        await env.reconcile(token_request, after=MINUTE)

    assert (env.exchanges, env.store.calls["apply_metadata"]) == (0, 1)
    assert env.secrets.data("acme") == before


async def test_new_renewal_time_counts_from_the_issue() -> None:
    env = await issued()
    await env.reconcile(request(renewal={"renewBefore": "10m"}), after=5 * MINUTE)

    assert env.issuance().renew == NOW + 50 * MINUTE


async def test_source_expiry_is_recorded() -> None:
    env = environment(signed(NOW, NOW + 100 * HOUR))
    outcome = await env.reconcile(request())

    assert outcome.issuance
    assert outcome.issuance.source_expires == NOW + 100 * HOUR
    assert outcome.issuance.source_warns == NOW + 90 * HOUR


async def test_suspended_request_is_not_renewed() -> None:
    env = await issued()
    env.secrets.delete("acme")
    outcome = await env.reconcile(request(suspend=True), after=HOUR)

    assert (outcome.reason, env.exchanges) == ("", 0)
    assert env.secrets.names() == {"license"}


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        pytest.param({}, "TargetConflict", id="not adoptable"),
        pytest.param({ADOPTABLE_BY: "other"}, "TargetConflict", id="adoptable by another request"),
        pytest.param({ADOPTABLE_BY: "acme"}, "", id="adoptable by this request"),
    ],
)
async def test_foreign_secret_is_adopted_only_if_annotated(annotations: dict[str, str], reason: str) -> None:
    env = environment()
    env.secrets.put("acme", data={"theirs": "x"}, annotations=annotations)
    outcome = await env.reconcile(request())

    assert outcome.failure_reason == reason
    assert env.exchanges == (0 if reason else 2)
    assert env.secrets.data("acme")["theirs"] == "x"


async def test_secret_of_another_request_is_refused() -> None:
    env = await issued()
    outcome = await env.reconcile(request("other", target={"secretName": "acme"}))

    assert outcome.failure
    assert outcome.failure.error.message.startswith("Secret acme belongs to TokenRequest acme;")
