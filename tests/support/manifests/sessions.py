"""Specs with STS sessions."""

from typing import Any

from tests.support.dependencies import ASSUME_ROLE
from tests.support.manifests.parts import SESSION, assume, role, secret_at, with_user_keys

MANAGED = {"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}
DEVICE = "arn:aws:iam::111122223333:mfa/keyturn"
MFA = {"serialNumber": DEVICE, "tokenCodeFrom": secret_at("mfa", "code")}


def federation_token(**changes: Any) -> dict[str, Any]:
    return {"getFederationToken": changes}


def tag(key: str, value: str = "") -> dict[str, str]:
    return {"key": key, "value": value}


def with_tags(*tags: dict[str, str], **more: Any) -> dict[str, Any]:
    return with_user_keys(assume(tags=list(tags), **more))


GOOD: dict[str, dict[str, Any]] = {
    "role with all fields": with_user_keys(
        assume(
            roleSessionName="{namespace}-{name}@k8s",
            externalIdFrom=secret_at("partner", "external_id"),
            tags=[tag("team", "blue"), tag("Kostenstelle é 表", "a b/c:d@e")],
            transitiveTagKeys=["team"],
            sourceIdentity="alice@example.com",
            policy='{\n\t"Version": "2012-10-17", "Sid": "ÿ"}',
            policyArns=[MANAGED] * 10,
            minimumSessionTokenSize=4096,
            durationSeconds=900,
            **MFA,
        )
    ),
    "externalId with all special characters": with_user_keys(assume(externalId="a+=,.@:/-_9")),
    "longest policy of a role": with_user_keys(assume(policy="x" * 10240)),
    "50 tags with the longest keys": with_tags(*(tag(f"k{n:0127}", "v" * 256) for n in range(50))),
    "no tags": with_tags(transitiveTagKeys=[]),
    "web identity with session policies": role(policy="{}", policyArns=[MANAGED], minimumSessionTokenSize=0),
    "web identity with providerId": role(providerId="www.amazon.com"),
    "session with MFA": with_user_keys({"getSessionToken": MFA | {"minimumSessionTokenSize": 1}}),
    "federated user": with_user_keys(federation_token()),
    "federated user with all fields": with_user_keys(
        federation_token(
            name="{name}",
            policy="{}",
            policyArns=[MANAGED],
            tags=[tag("team")],
            durationSeconds=129600,
            minimumSessionTokenSize=0,
        )
    ),
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "roleSessionName": {"session name with another placeholder": with_user_keys(assume(roleSessionName="{uid}"))},
    "externalId and externalIdFrom are mutually exclusive": {
        "externalId and externalIdFrom": with_user_keys(assume(externalId="ab", externalIdFrom=secret_at("x")))
    },
    "assumeRole.externalId": {
        "external ID of one character": with_user_keys(assume(externalId="a")),
        "external ID of 1225 characters": with_user_keys(assume(externalId="a" * 1225)),
        "external ID with a space": with_user_keys(assume(externalId="a b")),
    },
    "the target must not be a Secret that the spec reads or stores a token in": {
        "Secret of the external ID as the target": with_user_keys(assume(externalIdFrom=secret_at("acme"))),
        "Secret of the MFA code as the target": with_user_keys(
            {"getSessionToken": MFA | {"tokenCodeFrom": secret_at("acme")}}
        ),
    },
    "value": {"tag without a value": with_user_keys(assume(tags=[{"key": "a"}]))},
    "assumeRole.tags": {
        "tag with an empty key": with_tags(tag("")),
        "tag key of 129 characters": with_tags(tag("a" * 129)),
        "tag value of 257 characters": with_tags(tag("a", "b" * 257)),
        "tag value with an ampersand": with_tags(tag("a", "b&c")),
        "tag key with a tab": with_tags(tag("a\tb")),
        "51 tags": with_tags(*(tag(f"k{n}") for n in range(51))),
    },
    "tag keys must not start with aws:": {"tag key with the prefix aws:": with_tags(tag("AWS:team"))},
    "tag keys must be unique, ignoring case": {
        "tag twice": with_tags(tag("a"), tag("a", "b")),
        "tag twice in different case": with_tags(tag("Team"), tag("tEAM")),
        "federated user with a tag twice": with_user_keys(federation_token(tags=[tag("a"), tag("A")])),
    },
    "each transitiveTagKeys entry must be the key of a tag in tags": {
        "transitive key without a tag": with_tags(tag("a"), transitiveTagKeys=["b"]),
        "transitive key in another case": with_tags(tag("a"), transitiveTagKeys=["A"]),
        "transitive key without any tags": with_user_keys(assume(transitiveTagKeys=["b"])),
    },
    "assumeRole.sourceIdentity": {
        "source identity of one character": with_user_keys(assume(sourceIdentity="a")),
        "source identity with a colon": with_user_keys(assume(sourceIdentity="aws:a")),
    },
    "assumeRole.policy": {
        "empty policy": with_user_keys(assume(policy="")),
        "policy of 10241 characters": with_user_keys(assume(policy="x" * 10241)),
        "policy with a character above U+00FF": with_user_keys(assume(policy="Ā")),
        "policy that is YAML": with_user_keys(assume(policy={"Version": "2012-10-17"})),
    },
    "assumeRoleWithWebIdentity.policy": {"web identity policy of 2049 characters": role(policy="x" * 2049)},
    "assumeRole.policyArns": {
        "policy ARN of another kind": with_user_keys(assume(policyArns=[{"arn": f"{DEVICE}"}])),
        "policyArns with a name": with_user_keys(assume(policyArns=["ReadOnlyAccess"])),
    },
    "minimumSessionTokenSize": {
        "token size over 4096": with_user_keys(assume(minimumSessionTokenSize=4097)),
        "negative token size": role(minimumSessionTokenSize=-1),
    },
    "serialNumber and tokenCodeFrom must be set together": {
        "MFA device without a code": with_user_keys(assume(serialNumber=DEVICE)),
        "MFA code without a device": with_user_keys({"getSessionToken": {"tokenCodeFrom": secret_at("mfa")}}),
    },
    "unknown field": {
        "MFA code in the manifest": with_user_keys(assume(serialNumber=DEVICE, tokenCode="123456")),
        "external ID for a web identity": role(externalId="ab"),
        "tags for a web identity": role(tags=[tag("a")]),
        "federated user with MFA": with_user_keys(federation_token(**MFA)),
    },
    "serialNumber": {
        "serial number of eight characters": with_user_keys(assume(**MFA | {"serialNumber": "GAHT1234"})),
        "serial number with a space": with_user_keys(assume(**MFA | {"serialNumber": "GAHT 12345678"})),
    },
    "assumeRoleWithWebIdentity.providerId": {"providerId of three characters": role(providerId="a.b")},
    "getFederationToken.name": {
        "federated user name of 33 characters": with_user_keys(federation_token(name="a" * 33))
    },
    "getFederationToken.durationSeconds": {
        "federated user over 36 hours": with_user_keys(federation_token(durationSeconds=129601))
    },
    "getFederationToken.policy": {
        "federated user policy of 2049 characters": with_user_keys(federation_token(policy="x" * 2049))
    },
    "getSessionToken and getFederationToken require the access keys of an IAM user: no earlier exchange may produce": {
        "federated user after a role": with_user_keys(assume(), federation_token()),
        "federated user after a session": with_user_keys(SESSION, federation_token()),
        "federated user after a web identity": {"exchanges": [ASSUME_ROLE, federation_token()]},
    },
    "assumeRole cannot follow getFederationToken": {
        "role of a federated user": with_user_keys(federation_token(), assume())
    },
    "renewal.renewBefore must be shorter": {
        "renewBefore as long as a federated user": with_user_keys(
            federation_token(durationSeconds=900), renewal={"renewBefore": "15m"}
        )
    },
}
