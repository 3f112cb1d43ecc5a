"""Specs with sessions of STS."""

from typing import Any

from tests.support.dependencies import ASSUME_ROLE
from tests.support.manifests.parts import SESSION, assume, of_user, role, secret_at

MANAGED = {"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}
DEVICE = "arn:aws:iam::111122223333:mfa/keyturn"
MFA = {"serialNumber": DEVICE, "tokenCodeFrom": secret_at("mfa", "code")}


def federate(**changes: Any) -> dict[str, Any]:
    return {"getFederationToken": changes}


def tag(key: str, value: str = "") -> dict[str, str]:
    return {"key": key, "value": value}


def tagged(*tags: dict[str, str], **more: Any) -> dict[str, Any]:
    return of_user(assume(tags=list(tags), **more))


GOOD: dict[str, dict[str, Any]] = {
    "role with all fields": of_user(
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
    "externalId with all special characters": of_user(assume(externalId="a+=,.@:/-_9")),
    "longest policy of a role": of_user(assume(policy="x" * 10240)),
    "50 tags with the longest keys": tagged(*(tag(f"k{n:0127}", "v" * 256) for n in range(50))),
    "no tags": tagged(transitiveTagKeys=[]),
    "web identity with session policies": role(policy="{}", policyArns=[MANAGED], minimumSessionTokenSize=0),
    "web identity with providerId": role(providerId="www.amazon.com"),
    "session with MFA": of_user({"getSessionToken": MFA | {"minimumSessionTokenSize": 1}}),
    "federated user": of_user(federate()),
    "federated user with all fields": of_user(
        federate(
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
    "roleSessionName": {"session name with another placeholder": of_user(assume(roleSessionName="{uid}"))},
    "externalId and externalIdFrom are mutually exclusive": {
        "externalId and externalIdFrom": of_user(assume(externalId="ab", externalIdFrom=secret_at("x")))
    },
    "assumeRole.externalId": {
        "external id of one character": of_user(assume(externalId="a")),
        "external id of 1225 characters": of_user(assume(externalId="a" * 1225)),
        "external id with a space": of_user(assume(externalId="a b")),
    },
    "the target must not be a Secret that the spec reads or stores a token in": {
        "Secret of the external ID as the target": of_user(assume(externalIdFrom=secret_at("acme"))),
        "Secret of the MFA code as the target": of_user(
            {"getSessionToken": MFA | {"tokenCodeFrom": secret_at("acme")}}
        ),
    },
    "value": {"tag without a value": of_user(assume(tags=[{"key": "a"}]))},
    "assumeRole.tags": {
        "tag with an empty key": tagged(tag("")),
        "tag key of 129 characters": tagged(tag("a" * 129)),
        "tag value of 257 characters": tagged(tag("a", "b" * 257)),
        "tag value with an ampersand": tagged(tag("a", "b&c")),
        "tag key with a tab": tagged(tag("a\tb")),
        "51 tags": tagged(*(tag(f"k{n}") for n in range(51))),
    },
    "tag keys must not start with aws:": {"tag key with the prefix aws:": tagged(tag("AWS:team"))},
    "tag keys must be unique, ignoring case": {
        "tag twice": tagged(tag("a"), tag("a", "b")),
        "tag twice in different case": tagged(tag("Team"), tag("tEAM")),
        "federated user with a tag twice": of_user(federate(tags=[tag("a"), tag("A")])),
    },
    "each of transitiveTagKeys must be the key of a tag in tags": {
        "transitive key without a tag": tagged(tag("a"), transitiveTagKeys=["b"]),
        "transitive key in another case": tagged(tag("a"), transitiveTagKeys=["A"]),
        "transitive key without any tags": of_user(assume(transitiveTagKeys=["b"])),
    },
    "assumeRole.sourceIdentity": {
        "source identity of one character": of_user(assume(sourceIdentity="a")),
        "source identity with a colon": of_user(assume(sourceIdentity="aws:a")),
    },
    "assumeRole.policy": {
        "empty policy": of_user(assume(policy="")),
        "policy of 10241 characters": of_user(assume(policy="x" * 10241)),
        "policy with a character above U+00FF": of_user(assume(policy="Ā")),
        "policy that is YAML": of_user(assume(policy={"Version": "2012-10-17"})),
    },
    "assumeRoleWithWebIdentity.policy": {"web identity policy of 2049 characters": role(policy="x" * 2049)},
    "assumeRole.policyArns": {
        "policy ARN of another kind": of_user(assume(policyArns=[{"arn": f"{DEVICE}"}])),
        "policyArns with a name": of_user(assume(policyArns=["ReadOnlyAccess"])),
    },
    "minimumSessionTokenSize": {
        "token size over 4096": of_user(assume(minimumSessionTokenSize=4097)),
        "negative token size": role(minimumSessionTokenSize=-1),
    },
    "serialNumber and tokenCodeFrom must be set together": {
        "MFA device without a code": of_user(assume(serialNumber=DEVICE)),
        "MFA code without a device": of_user({"getSessionToken": {"tokenCodeFrom": secret_at("mfa")}}),
    },
    "unknown field": {
        "MFA code in the manifest": of_user(assume(serialNumber=DEVICE, tokenCode="123456")),
        "external id for a web identity": role(externalId="ab"),
        "tags for a web identity": role(tags=[tag("a")]),
        "federated user with MFA": of_user(federate(**MFA)),
    },
    "serialNumber": {
        "serial number of eight characters": of_user(assume(**MFA | {"serialNumber": "GAHT1234"})),
        "serial number with a space": of_user(assume(**MFA | {"serialNumber": "GAHT 12345678"})),
    },
    "assumeRoleWithWebIdentity.providerId": {"providerId of three characters": role(providerId="a.b")},
    "getFederationToken.name": {"federated user name of 33 characters": of_user(federate(name="a" * 33))},
    "getFederationToken.durationSeconds": {"federated user over 36 hours": of_user(federate(durationSeconds=129601))},
    "getFederationToken.policy": {"federated user policy of 2049 characters": of_user(federate(policy="x" * 2049))},
    "getSessionToken and getFederationToken require the access keys of an IAM user: no earlier exchange may produce": {
        "federated user after a role": of_user(assume(), federate()),
        "federated user after a session": of_user(SESSION, federate()),
        "federated user after a web identity": {"exchanges": [ASSUME_ROLE, federate()]},
    },
    "assumeRole cannot follow getFederationToken": {"role of a federated user": of_user(federate(), assume())},
    "renewal.renewBefore must be shorter": {
        "renewBefore as long as a federated user": of_user(
            federate(durationSeconds=900), renewal={"renewBefore": "15m"}
        )
    },
}
