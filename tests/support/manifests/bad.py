"""Invalid specs that do not belong to the topic of another module.

tests/e2e/test_security.py tries invalid names, keys, regions and token endpoints.
"""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, ROLE
from tests.support.manifests.parts import (
    SESSION,
    annotation,
    assume,
    formats,
    labels,
    refresh,
    renewal,
    role,
    secret_at,
    session,
    source_token,
    token_url,
    with_source_token,
    with_user_keys,
)

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "token": {"no source": {"source": None}, "empty source": {"source": {}}},
    "key": {
        "source without a key": {"source": {"token": {"secretKeyRef": {"name": "license"}}}},
        "client secret reference without a key": refresh(clientSecretFrom={"secretKeyRef": {"name": "client"}}),
    },
    "spec.source.token.secretKeyRef.name": {"source Secret with a capital letter": source_token("License")},
    "the target must not be a Secret that the spec reads or stores a token in": {
        "source Secret as the default target": source_token("acme"),
        "source Secret as the target": {"target": {"secretName": "license"}},
        "credentials Secret as the target": with_user_keys(target={"secretName": "base"}),
        "default token Secret as the target": refresh() | {"target": {"secretName": "license-keyturn"}},
        "token Secret of saveTo as the target": refresh() | with_source_token(saveTo={"secretName": "acme"}),
        "Secret of the client secret as the target": refresh(clientSecretFrom=secret_at("acme")),
        "Secret of the CA bundle as the target": refresh(caBundleFrom=secret_at("acme")),
    },
    "exchanges": {"no exchanges": {"exchanges": None}},
    "spec.exchanges": {
        "empty list of exchanges": {"exchanges": []},
        "seven exchanges": {"exchanges": [ACCESS_TOKEN] * 7},
    },
    "exactly one of licenseManagerGetAccessToken, ": {
        "step without an exchange": {"exchanges": [{}]},
        "two exchanges in one step": {"exchanges": [ACCESS_TOKEN | ASSUME_ROLE]},
    },
    "unknown field": {
        "unknown exchange": {"exchanges": [{"assumeRoleWithSaml": {}}]},
        "unknown field of the spec": {"sources": []},
        "secretRef with a key": with_user_keys(source={"credentials": {"secretRef": {"name": "base", "key": "a"}}}),
        "ambient outside of credentials": {"source": with_source_token()["source"] | {"ambient": {}}},
        "getSessionToken with a role": with_user_keys({"getSessionToken": {"roleArn": ROLE}}),
        "oauthToken with a region": refresh(region="us-east-1"),
        "client secret in the manifest": refresh(clientSecret="x"),
    },
    "tokenProperties": {
        "four token properties": {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": list("abcd")}}]}
    },
    "must be the ARN of an IAM role, such as arn:aws:iam::111122223333:role/billing": {
        "ARN of a user as role": role(roleArn="arn:aws:iam::111122223333:user/LicenseConsumer"),
    },
    "roleArn": {
        "web identity without a role ARN": {"exchanges": [{"assumeRoleWithWebIdentity": {}}]},
        "role without an ARN": with_user_keys({"assumeRole": {}}),
    },
    "roleSessionName": {
        "session name of one character": role(roleSessionName="a"),
        "session name with a space": role(roleSessionName="a b"),
    },
    "durationSeconds": {
        "duration under 15 minutes": role(durationSeconds=899),
        "duration over 12 hours": role(durationSeconds=43201),
        "durationSeconds as a string": role(durationSeconds="3600"),
    },
    "region is missing: set spec.region, or region in each AWS exchange": {
        "no region": {"region": None},
        "region in one of two exchanges": {"region": None} | role(region="us-east-1"),
        "role after a refresh_token grant, without a region": {"exchanges": [REFRESH, ASSUME_ROLE], "region": None},
    },
    "spec.target.formats": {"empty list of formats": formats()},
    "exactly one of env, credentialProcess, credentialsFile, token": {
        "format without a member": formats({}),
        "two members in one format": formats({"env": {}, "token": {}}),
    },
    "two formats write the same key: set a different `key` on one of them": {
        "env twice": formats({"env": {}}, {"env": {}}),
        "two formats with one key": formats({"token": {}}, {"credentialsFile": {"key": "token"}}),
    },
    "key must not be one of the reserved keys AWS_ACCESS_KEY_ID": {
        "key that env writes": formats({"token": {"key": "AWS_REGION"}}),
        "key expiration": formats({"credentialProcess": {"key": "expiration"}}),
    },
    "token.key": {"key ..": formats({"token": {"key": ".."}})},
    "credentialsFile.profile": {"profile with a bracket": formats({"credentialsFile": {"profile": "a]"}})},
    "formats that contain credentials require one of these exchanges": {
        "env without credentials": {"exchanges": [ACCESS_TOKEN]} | formats({"env": {}})
    },
    "labels and annotations must not have the prefix keyturn.dev/, which Keyturn uses, or one of the names app.kub": {
        "label with Keyturn's prefix": labels(**{"keyturn.dev__x": "1"}),
        "label that Keyturn sets": labels(**{"app.kubernetes.io__managed-by": "me"}),
        "label of an apply set, which kubectl prunes": labels(**{"applyset.kubernetes.io__part-of": "x"}),
        "annotation with which kubectl removes fields": annotation("kubectl.kubernetes.io/last-applied-configuration"),
        "annotation of a ServiceAccount's token": annotation("kubernetes.io/service-account.name"),
        "annotation with Keyturn's prefix": annotation("keyturn.dev/issuance"),
        "annotation with a subdomain of Keyturn's prefix": annotation("sub.keyturn.dev/issuance"),
    },
    "names of labels and annotations must be 1 to 63 letters, digits": {
        "label with a space in its name": labels(**{"cost center": "1"}),
        "label name of 64 characters": labels(**{f"example.com__{'a' * 64}": "1"}),
        "label with two slashes": labels(a__b__c="1"),
        "annotation without a name": annotation("example.com/"),
    },
    "with a letter or digit at the start and at the end": {"label value with a space": labels(team="a b")},
    "spec.target.metadata.labels": {
        "33 labels": labels(**{f"l{n}": "x" for n in range(33)}),
    },
    "spec.target.deletionPolicy": {"unknown deletion policy": {"target": {"deletionPolicy": "Orphan"}}},
    "renewBefore and renewBeforePercentage are mutually exclusive": {
        "renewBefore and renewBeforePercentage": {"renewal": {"renewBefore": "5m", "renewBeforePercentage": 5}}
    },
    "renewBefore must be at least 1s": {"renewBefore of 0s": renewal("0s")},
    "spec.renewal.renewBefore": {
        "renewBefore without a unit": renewal("20"),
        "empty renewBefore": renewal(""),
        "renewBefore in days": renewal("1d"),
    },
    "renewal.renewBefore must be shorter than durationSeconds of the last exchange (or its default)": {
        "renewBefore as long as the default durationSeconds": renewal("1h"),
        "renewBefore as long as durationSeconds": renewal("15m", 900),
        "renewBefore as long as the default session of an IAM user": with_user_keys(renewal={"renewBefore": "12h"}),
        "renewBefore as long as the default session of a role": with_user_keys(assume(), renewal={"renewBefore": "1h"}),
    },
    "renewBeforePercentage": {"renewBeforePercentage 100": {"renewal": {"renewBeforePercentage": 100}}},
    "spec.suspend": {"suspend as a string": {"suspend": "yes"}},
    "secretRef": {"credentials without a Secret": with_user_keys(source={"credentials": {}})},
    "the name of the token Secret, <name of the source Secret>-keyturn, is longer than 253 characters": {
        "rotating source Secret with a name of 246 characters": refresh() | source_token("a" * 246),
    },
    "saveTo.secretName must not be the source Secret": {
        "saveTo the source Secret": with_source_token(saveTo={"secretName": "license"})
    },
    "secretName": {"saveTo without a name": with_source_token(saveTo={})},
    "saveTo.metadata": {
        "label of Keyturn on the token Secret": with_source_token(
            saveTo={"secretName": "live", "metadata": {"labels": {"keyturn.dev/token-of": "x"}}}
        )
    },
    "token is missing: set source.token, or put an exchange that produces a token before": {
        "License Manager without a token": with_user_keys(ACCESS_TOKEN),
        "web identity after a role without a token": with_user_keys(assume(), ASSUME_ROLE),
        "refresh_token grant without a token": with_user_keys(REFRESH),
        "token produced only later": with_user_keys(ASSUME_ROLE, ACCESS_TOKEN),
    },
    "credentials are missing: set source.credentials, or put an exchange that produces credentials before": {
        "role without credentials": {"exchanges": [assume()]},
        "session without credentials": {"exchanges": [ACCESS_TOKEN, SESSION]},
        "credentials produced only later": {"exchanges": [assume(), ASSUME_ROLE]},
    },
    "formats that contain a token require source.token": {
        "token format without a token": with_user_keys(**formats({"token": {}}))
    },
    "getSessionToken and getFederationToken require the access keys of an IAM user: no earlier exchange may produce": {
        "getSessionToken after a role": with_user_keys(assume(), SESSION),
        "getSessionToken after a web identity": {"exchanges": [ASSUME_ROLE, SESSION]},
        "getSessionToken twice": with_user_keys(SESSION, SESSION),
    },
    "getSessionToken.durationSeconds": {
        "getSessionToken for a minute": with_user_keys(session(60)),
        "getSessionToken over 36 hours": with_user_keys(session(129601)),
    },
    "assumeRole after another role (role chaining) is limited to 3600 seconds": {
        "role after a role over an hour": with_user_keys(assume(), assume(durationSeconds=3601)),
        "role after a web identity over an hour": {"exchanges": [ASSUME_ROLE, assume(durationSeconds=3601)]},
    },
    "assumeRole.durationSeconds": {"role over 12 hours": with_user_keys(assume(durationSeconds=43201))},
    "grantType refresh_token sends source.token": {
        "refresh_token grant after a token": {"exchanges": [ACCESS_TOKEN, REFRESH]},
        "two refresh_token grants": {"exchanges": [REFRESH, REFRESH]},
    },
    "tokenUrl": {"no token endpoint": refresh(tokenUrl=None)},
    "must be an https URL without a user name and a fragment": {
        "token endpoint with a space": token_url("https://issuer.example/a b"),
        "token endpoint with a fragment after a query": token_url("https://issuer.example/token?a=b#c"),
        "token endpoint with a user name and a query": token_url("https://me@issuer.example?a=b"),
        "token endpoint with a host of 260 characters": token_url(f"https://{'a' * 260}/token"),
    },
    "grantType": {"no grantType": refresh(grantType=None)},
    'supported values: "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:': {
        "unknown grantType": refresh(grantType="account_credentials"),
    },
    "clientId": {"refresh_token grant without clientId (issuer)": refresh(clientId=None)},
    "oauthToken.clientId": {"empty clientId": refresh(clientId="")},
    "oauthToken.clientAuthentication": {
        "unknown client authentication": refresh(clientAuthentication="tls_client_auth")
    },
    "oauthToken.scope": {
        "scope with a space": refresh(scope=["a b"]),
        "scope with a quote": refresh(scope=['a"b']),
        "empty scope": refresh(scope=["openid", ""]),
        "65 scopes": refresh(scope=["a"] * 65),
    },
}
