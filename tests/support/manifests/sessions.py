"""Specs of sessions: those that are taken, and those that are refused with the sentence that says why."""

from typing import Any

from tests.support.dependencies import ASSUME_ROLE
from tests.support.manifests.parts import SESSION, assume, of_user, role, secret_at

_USER_ONLY = (
    "getSessionToken and getFederationToken require the access keys of an IAM user: no earlier exchange may produce"
)
_GUEST = "assumeRole cannot follow getFederationToken"
_MFA = "serialNumber and tokenCodeFrom must be set together"
_TRANSITIVE = "each of transitiveTagKeys must be the key of a tag in tags"
_SAME_KEYS = "tag keys must be unique, ignoring case"
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
    "a role with all that can be said": of_user(
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
    "an external id with every sign": of_user(assume(externalId="a+=,.@:/-_9")),
    "the longest policy of a role": of_user(assume(policy="x" * 10240)),
    "50 tags with the longest keys": tagged(*(tag(f"k{n:0127}", "v" * 256) for n in range(50))),
    "no tags": tagged(transitiveTagKeys=[]),
    "a web identity with policies": role(policy="{}", policyArns=[MANAGED], minimumSessionTokenSize=0),
    "a web identity of an OAuth provider": role(providerId="www.amazon.com"),
    "a session with an MFA code": of_user({"getSessionToken": MFA | {"minimumSessionTokenSize": 1}}),
    "a guest": of_user(federate()),
    "a guest with all that can be said": of_user(
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

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a session name with another placeholder": (of_user(assume(roleSessionName="{uid}")), "roleSessionName"),
    "both external ids": (
        of_user(assume(externalId="ab", externalIdFrom=secret_at("x"))),
        "externalId and externalIdFrom are mutually exclusive",
    ),
    "an external id of one character": (of_user(assume(externalId="a")), "assumeRole.externalId"),
    "an external id of 1225 characters": (of_user(assume(externalId="a" * 1225)), "assumeRole.externalId"),
    "an external id with a space": (of_user(assume(externalId="a b")), "assumeRole.externalId"),
    "a target that is the external id": (
        of_user(assume(externalIdFrom=secret_at("acme"))),
        "the target must not be a Secret that the spec reads",
    ),
    "a target that is the MFA code": (
        of_user({"getSessionToken": MFA | {"tokenCodeFrom": secret_at("acme")}}),
        "the target must not be a Secret that the spec reads",
    ),
    "a tag without a value": (of_user(assume(tags=[{"key": "a"}])), "value"),
    "a tag with an empty key": (tagged(tag("")), "assumeRole.tags[0].key"),
    "a tag key of 129 characters": (tagged(tag("a" * 129)), "assumeRole.tags[0].key"),
    "a tag value of 257 characters": (tagged(tag("a", "b" * 257)), "assumeRole.tags[0].value"),
    "a tag value with a sign that AWS refuses": (tagged(tag("a", "b&c")), "assumeRole.tags[0].value"),
    "a tag key with a tabulator": (tagged(tag("a\tb")), "assumeRole.tags[0].key"),
    "a tag of AWS": (tagged(tag("AWS:team")), "tag keys must not start with aws:"),
    "a tag twice": (tagged(tag("a"), tag("a", "b")), _SAME_KEYS),
    "a tag twice but for its case": (tagged(tag("Team"), tag("tEAM")), _SAME_KEYS),
    "51 tags": (tagged(*(tag(f"k{n}") for n in range(51))), "assumeRole.tags"),
    "a transitive key without a tag": (tagged(tag("a"), transitiveTagKeys=["b"]), _TRANSITIVE),
    "a transitive key in another case": (tagged(tag("a"), transitiveTagKeys=["A"]), _TRANSITIVE),
    "a transitive key without any tags": (of_user(assume(transitiveTagKeys=["b"])), _TRANSITIVE),
    "a source identity of one character": (of_user(assume(sourceIdentity="a")), "assumeRole.sourceIdentity"),
    "a source identity of AWS": (of_user(assume(sourceIdentity="aws:a")), "assumeRole.sourceIdentity"),
    "an empty policy": (of_user(assume(policy="")), "assumeRole.policy"),
    "a policy that is too long": (of_user(assume(policy="x" * 10241)), "assumeRole.policy"),
    "a policy with a sign that IAM refuses": (of_user(assume(policy="Ā")), "assumeRole.policy"),
    "a policy that is YAML": (of_user(assume(policy={"Version": "2012-10-17"})), "assumeRole.policy"),
    "a web identity's policy that is too long": (role(policy="x" * 2049), "assumeRoleWithWebIdentity.policy"),
    "eleven policies": (of_user(assume(policyArns=[MANAGED] * 11)), "assumeRole.policyArns"),
    "a policy that is a role": (of_user(assume(policyArns=[{"arn": f"{DEVICE}"}])), "policyArns[0].arn"),
    "a policy by its name": (of_user(assume(policyArns=["ReadOnlyAccess"])), "policyArns[0]"),
    "a token size over 4096": (of_user(assume(minimumSessionTokenSize=4097)), "minimumSessionTokenSize"),
    "a token size below nothing": (role(minimumSessionTokenSize=-1), "minimumSessionTokenSize"),
    "a device without a code": (of_user(assume(serialNumber=DEVICE)), _MFA),
    "a code without a device": (of_user({"getSessionToken": {"tokenCodeFrom": secret_at("mfa")}}), _MFA),
    "an MFA code in the manifest": (of_user(assume(serialNumber=DEVICE, tokenCode="123456")), "unknown field"),
    "a device of eight characters": (of_user(assume(**MFA | {"serialNumber": "GAHT1234"})), "serialNumber"),
    "a device with a space": (of_user(assume(**MFA | {"serialNumber": "GAHT 12345678"})), "serialNumber"),
    "a provider of three characters": (role(providerId="a.b"), "assumeRoleWithWebIdentity.providerId"),
    "an external id for a web identity": (role(externalId="ab"), "unknown field"),
    "tags for a web identity": (role(tags=[tag("a")]), "unknown field"),
    "a guest with a long name": (of_user(federate(name="a" * 33)), "getFederationToken.name"),
    "a guest with a name of one character": (of_user(federate(name="a")), "getFederationToken.name"),
    "a guest with tags that are the same": (of_user(federate(tags=[tag("a"), tag("A")])), _SAME_KEYS),
    "a guest for 14 minutes": (of_user(federate(durationSeconds=899)), "getFederationToken.durationSeconds"),
    "a guest for over 36 hours": (of_user(federate(durationSeconds=129601)), "getFederationToken.durationSeconds"),
    "a guest with a policy that is too long": (of_user(federate(policy="x" * 2049)), "getFederationToken.policy"),
    "a guest with an MFA code": (of_user(federate(**MFA)), "unknown field"),
    "a guest after a role": (of_user(assume(), federate()), _USER_ONLY),
    "a guest after a user's session": (of_user(SESSION, federate()), _USER_ONLY),
    "a guest after a web identity": ({"exchanges": [ASSUME_ROLE, federate()]}, _USER_ONLY),
    "a role of a guest": (of_user(federate(), assume()), _GUEST),
    "a guest that is renewed before it is there": (
        of_user(federate(durationSeconds=900), renewal={"renewBefore": "15m"}),
        "renewal.renewBefore must be shorter",
    ),
}
