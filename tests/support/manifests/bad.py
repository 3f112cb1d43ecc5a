"""Specs that are refused, each with the sentence that says why."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, ROLE
from tests.support.manifests.parts import (
    SESSION,
    annotation,
    assume,
    at,
    formats,
    labels,
    of_token,
    of_user,
    refresh,
    renewal,
    role,
    secret_at,
    session,
    token_of,
)

_EXACTLY_ONE_OPERATION = "give exactly one of licenseManagerGetAccessToken, "
_EXACTLY_ONE_FORMAT = "give exactly one of env, credentialProcess, credentialsFile, token"
_RESERVED_KEY = "key must not be one of AWS_ACCESS_KEY_ID"
_SAME_KEY = "two formats write the same key: give one of them another `key`"
_METADATA = "labels and annotations under keyturn.dev, kubernetes.io or k8s.io are not yours to set here"
_METADATA_NAME = "the name of a label or annotation has up to 63 letters, digits"
_NO_REGION = "region is missing: give spec.region, or a region to each exchange"
_NO_CREDENTIALS = "a format that holds credentials needs an exchange that gives them"
_SAME_SECRET = "the target must not be a Secret that the spec reads or keeps a token in"
_TOO_EARLY = "renewal.renewBefore must be shorter than the durationSeconds of the last exchange (or its default)"
_NO_TOKEN = "token missing: give source.token, or put an exchange that gives token before"
_NO_KEYS = "credentials missing: give source.credentials, or put an exchange that gives credentials before"
_NO_TOKEN_GIVEN = "a format that holds token needs an exchange that gives them"
_USER_ONLY = "getSessionToken and getFederationToken take the keys of an IAM user: no exchange before may give"
_CHAINED = "assumeRole after another role lasts at most 3600 s"
_REFRESH_FIRST = "the refresh_token grant uses source.token: no exchange before it may give a token"
_KEEPS_TO_ITSELF = "saveTo.secretName must not be the source Secret"

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"source": None}, "source"),
    "a source without a way": ({"source": {}}, "token"),
    "a source without a key": ({"source": {"token": {"secretKeyRef": {"name": "license"}}}}, "key"),
    "a source Secret that no Secret can be named": (
        token_of("License"),
        "spec.source.token.secretKeyRef.name",
    ),
    "a source Secret with a newline at the end": (
        token_of("license\n"),
        "spec.source.token.secretKeyRef.name",
    ),
    "a source key with a slash": (token_of(key="a/b"), "spec.source.token.secretKeyRef.key"),
    "a source that is the target by default": (token_of("acme"), _SAME_SECRET),
    "a source that is the target": ({"target": {"secretName": "license"}}, _SAME_SECRET),
    "no exchanges": ({"exchanges": None}, "exchanges"),
    "an empty list of exchanges": ({"exchanges": []}, "spec.exchanges"),
    "seven exchanges": ({"exchanges": [ACCESS_TOKEN] * 7}, "spec.exchanges"),
    "an exchange without an operation": ({"exchanges": [{}]}, _EXACTLY_ONE_OPERATION),
    "two operations in one exchange": ({"exchanges": [ACCESS_TOKEN | ASSUME_ROLE]}, _EXACTLY_ONE_OPERATION),
    "an unknown operation": ({"exchanges": [{"assumeRoleWithSaml": {}}]}, "unknown field"),
    "an unknown field of the spec": ({"sources": []}, "unknown field"),
    "four token properties": (
        {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": list("abcd")}}]},
        "spec.exchanges[0].licenseManagerGetAccessToken.tokenProperties",
    ),
    "a role without an ARN": ({"exchanges": [{"assumeRoleWithWebIdentity": {}}]}, "roleArn"),
    "a user's ARN": (role(roleArn="arn:aws:iam::111122223333:user/LicenseConsumer"), "roleArn"),
    "an ARN with a newline at the end": (role(roleArn=f"{ROLE}\n"), "roleArn"),
    "a session name of one character": (role(roleSessionName="a"), "roleSessionName"),
    "a session name of 65 characters": (role(roleSessionName="a" * 65), "roleSessionName"),
    "a session name with a space": (role(roleSessionName="a b"), "roleSessionName"),
    "a duration under 15 minutes": (role(durationSeconds=899), "durationSeconds"),
    "a duration over 12 hours": (role(durationSeconds=43201), "durationSeconds"),
    "a duration that is a word": (role(durationSeconds="3600"), "durationSeconds"),
    "no region at all": ({"region": None}, _NO_REGION),
    "a region to one of two exchanges": ({"region": None} | role(region="us-east-1"), _NO_REGION),
    "a region with a dot": ({"region": "us-east-1.evil.example"}, "spec.region"),
    "a region with a newline at the end": ({"region": "us-east-1\n"}, "spec.region"),
    "an empty region": ({"region": ""}, "spec.region"),
    "a region of an exchange that is a host": (role(region="a/b"), "assumeRoleWithWebIdentity.region"),
    "an empty list of formats": (formats(), "spec.target.formats"),
    "nine formats": (formats(*({"token": {"key": f"k{n}"}} for n in range(9))), "spec.target.formats"),
    "a format without a member": (formats({}), _EXACTLY_ONE_FORMAT),
    "two members in one format": (formats({"env": {}, "token": {}}), _EXACTLY_ONE_FORMAT),
    "env twice": (formats({"env": {}}, {"env": {}}), _SAME_KEY),
    "two formats with one key": (formats({"token": {}}, {"credentialsFile": {"key": "token"}}), _SAME_KEY),
    "a key that env writes": (formats({"token": {"key": "AWS_REGION"}}), _RESERVED_KEY),
    "a key that is always written": (formats({"credentialProcess": {"key": "expiration"}}), _RESERVED_KEY),
    "a key that is a path": (formats({"token": {"key": ".."}}), "token.key"),
    "a key with a newline at the end": (formats({"token": {"key": "token\n"}}), "token.key"),
    "a profile with a bracket": (formats({"credentialsFile": {"profile": "a]"}}), "credentialsFile.profile"),
    "credentials where no exchange gives any": (
        {"exchanges": [ACCESS_TOKEN]} | formats({"env": {}}),
        _NO_CREDENTIALS,
    ),
    "a label of ours": (labels(**{"keyturn.dev__x": "1"}), _METADATA),
    "a label of Kubernetes": (labels(**{"app.kubernetes.io__managed-by": "me"}), _METADATA),
    "an annotation of ours": (annotation("keyturn.dev/issuance"), _METADATA),
    "an annotation below our domain": (annotation("sub.keyturn.dev/issuance"), _METADATA),
    "a label with a space in its name": (labels(**{"cost center": "1"}), _METADATA_NAME),
    "a label with a name of 64": (labels(**{f"example.com__{'a' * 64}": "1"}), _METADATA_NAME),
    "a label with two slashes": (labels(a__b__c="1"), _METADATA_NAME),
    "an annotation without a name": (annotation("example.com/"), _METADATA_NAME),
    "an annotation with a newline at the end": (annotation("note\n"), _METADATA_NAME),
    "a label value with a space": (labels(team="a b"), "spec.target.metadata.labels"),
    "a label value with a newline at the end": (labels(team="a\n"), "spec.target.metadata.labels"),
    "33 labels": (labels(**{f"l{n}": "x" for n in range(33)}), "spec.target.metadata.labels"),
    "an unknown deletion policy": ({"target": {"deletionPolicy": "Orphan"}}, "spec.target.deletionPolicy"),
    "a target Secret with a slash": ({"target": {"secretName": "a/b"}}, "spec.target.secretName"),
    "both ways to say when to renew": (
        {"renewal": {"renewBefore": "5m", "renewBeforePercentage": 5}},
        "give renewBefore or renewBeforePercentage, not both",
    ),
    "renewBefore of no length": (renewal("0s"), "renewBefore must be at least 1s"),
    "renewBefore without a unit": (renewal("20"), "spec.renewal.renewBefore"),
    "an empty renewBefore": (renewal(""), "spec.renewal.renewBefore"),
    "renewBefore in days": (renewal("1d"), "spec.renewal.renewBefore"),
    "renewBefore with a newline at the end": (renewal("20m\n"), "spec.renewal.renewBefore"),
    "renewBefore as long as the default duration": (renewal("1h"), _TOO_EARLY),
    "renewBefore as long as the duration": (renewal("15m", 900), _TOO_EARLY),
    "a percentage of all": ({"renewal": {"renewBeforePercentage": 100}}, "renewBeforePercentage"),
    "suspend as a word": ({"suspend": "yes"}, "spec.suspend"),
    "credentials without a Secret": (of_user(source={"credentials": {}}), "secretRef"),
    "a Secret of credentials with a capital": (
        of_user(source={"credentials": {"secretRef": {"name": "Base"}}}),
        "spec.source.credentials.secretRef.name",
    ),
    "a key for credentials, which have their own": (
        of_user(source={"credentials": {"secretRef": {"name": "base", "key": "a"}}}),
        "unknown field",
    ),
    "a way that no source has": ({"source": of_token()["source"] | {"ambient": {}}}, "unknown field"),
    "a token kept in its source": (of_token(saveTo={"secretName": "license"}), _KEEPS_TO_ITSELF),
    "a kept token without a name": (of_token(saveTo={}), "secretName"),
    "a kept token in a Secret with a slash": (of_token(saveTo={"secretName": "a/b"}), "saveTo.secretName"),
    "a target that is the Secret of the credentials": (of_user(target={"secretName": "base"}), _SAME_SECRET),
    "a target that keeps the token": (refresh() | {"target": {"secretName": "license-keyturn"}}, _SAME_SECRET),
    "a target that keeps the token by name": (
        refresh() | of_token(saveTo={"secretName": "acme"}),
        _SAME_SECRET,
    ),
    "a target that is the client's secret": (refresh(clientSecretFrom=secret_at("acme")), _SAME_SECRET),
    "a target that is the CA bundle": (refresh(caBundleFrom=secret_at("acme")), _SAME_SECRET),
    "no token for License Manager": (of_user(ACCESS_TOKEN), _NO_TOKEN),
    "no token after a role": (of_user(assume(), ASSUME_ROLE), _NO_TOKEN),
    "no token to refresh": (of_user(REFRESH), _NO_TOKEN),
    "a token that comes only later": (of_user(ASSUME_ROLE, ACCESS_TOKEN), _NO_TOKEN),
    "no credentials for a role": ({"exchanges": [assume()]}, _NO_KEYS),
    "no credentials for a session": ({"exchanges": [ACCESS_TOKEN, SESSION]}, _NO_KEYS),
    "credentials that come only later": ({"exchanges": [assume(), ASSUME_ROLE]}, _NO_KEYS),
    "a token where no exchange gives any": (of_user(**formats({"token": {}})), _NO_TOKEN_GIVEN),
    "a user's session after a role": (of_user(assume(), SESSION), _USER_ONLY),
    "a user's session after a web identity": ({"exchanges": [ASSUME_ROLE, SESSION]}, _USER_ONLY),
    "a user's session twice": (of_user(SESSION, SESSION), _USER_ONLY),
    "a user's session for a minute": (of_user(session(60)), "getSessionToken.durationSeconds"),
    "a user's session over 36 hours": (of_user(session(129601)), "getSessionToken.durationSeconds"),
    "a user's session of a role": (of_user({"getSessionToken": {"roleArn": ROLE}}), "unknown field"),
    "a role after a role over an hour": (of_user(assume(), assume(durationSeconds=3601)), _CHAINED),
    "a role after a web identity over an hour": (
        {"exchanges": [ASSUME_ROLE, assume(durationSeconds=3601)]},
        _CHAINED,
    ),
    "a role of a user for over 12 hours": (
        of_user(assume(durationSeconds=43201)),
        "assumeRole.durationSeconds",
    ),
    "a role of a user without an ARN": (of_user({"assumeRole": {}}), "roleArn"),
    "a role of a user in a region that is a host": (of_user(assume(region="a.b")), "assumeRole.region"),
    "a refresh in the second place": ({"exchanges": [ACCESS_TOKEN, REFRESH]}, _REFRESH_FIRST),
    "two refreshes": ({"exchanges": [REFRESH, REFRESH]}, _REFRESH_FIRST),
    "a refresh in a region": (refresh(region="us-east-1"), "unknown field"),
    "a client's secret in the manifest": (refresh(clientSecret="x"), "unknown field"),
    "no token endpoint": (refresh(tokenUrl=None), "tokenUrl"),
    "a token endpoint without TLS": (at("http://issuer.example/token"), "oauthToken.tokenUrl"),
    "a token endpoint without a host": (at("https:///token"), "oauthToken.tokenUrl"),
    "a token endpoint with a user": (at("https://me:pass@issuer.example"), "oauthToken.tokenUrl"),
    "a token endpoint with a query": (at("https://issuer.example/token?a=b"), "oauthToken.tokenUrl"),
    "a token endpoint with a fragment": (at("https://issuer.example/token#a"), "oauthToken.tokenUrl"),
    "a token endpoint with a newline at the end": (
        at("https://issuer.example/token\n"),
        "oauthToken.tokenUrl",
    ),
    "a token endpoint with a space": (at("https://issuer.example/a b"), "oauthToken.tokenUrl"),
    "no grant type": (refresh(grantType=None), "grantType"),
    "an unknown grant type": (refresh(grantType="password"), "oauthToken.grantType"),
    "no client": (refresh(clientId=None), "clientId"),
    "an empty client": (refresh(clientId=""), "oauthToken.clientId"),
    "a client with a newline at the end": (refresh(clientId="acme\n"), "oauthToken.clientId"),
    "a client's secret without a key": (
        refresh(clientSecretFrom={"secretKeyRef": {"name": "client"}}),
        "key",
    ),
    "an unknown client authentication": (
        refresh(clientAuthentication="tls_client_auth"),
        "oauthToken.clientAuthentication",
    ),
    "a scope with a space": (refresh(scope=["a b"]), "oauthToken.scope[0]"),
    "a scope with a quote": (refresh(scope=['a"b']), "oauthToken.scope[0]"),
    "an empty scope": (refresh(scope=["openid", ""]), "oauthToken.scope[1]"),
    "65 scopes": (refresh(scope=["a"] * 65), "oauthToken.scope"),
    "a role after a refresh, without a region": (
        {"exchanges": [REFRESH, ASSUME_ROLE], "region": None},
        _NO_REGION,
    ),
    "renewBefore as long as the default session of a user": (
        of_user(renewal={"renewBefore": "12h"}),
        _TOO_EARLY,
    ),
    "renewBefore as long as the default role of a user": (
        of_user(assume(), renewal={"renewBefore": "1h"}),
        _TOO_EARLY,
    ),
}
