"""Valid specs that do not belong to the topic of another module."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH
from tests.support.manifests.parts import (
    SESSION,
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

GOOD: dict[str, dict[str, Any]] = {
    "default manifest": {},
    "exchange that produces only a token": {"exchanges": [ACCESS_TOKEN]},
    "source token that is an ID token": {"exchanges": [ASSUME_ROLE]},
    "token properties": {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": ["a", "b", "c"]}}]},
    "region in each exchange only": {
        "region": None,
        "exchanges": [{"licenseManagerGetAccessToken": {"region": "us-east-1"}}],
    },
    "role of another partition": role(roleArn="arn:aws-us-gov:iam::111122223333:role/team/a=b@c"),
    "role of another implementation of STS, without an account": role(roleArn="arn:minio:iam:::role/billing"),
    "session name and the maximum duration": role(roleSessionName="a=b,c.d@e+f", durationSeconds=43200),
    "every format of a role": formats({"env": {}}, {"credentialProcess": {}}, {"credentialsFile": {}}, {"token": {}}),
    "one format twice, with two keys": formats({"token": {}}, {"token": {"key": "other"}}),
    "token format with a role": formats({"token": {"key": "web_identity_token"}}),
    "profile": formats({"credentialsFile": {"profile": "me@work.example"}}),
    "labels and annotations": {"target": {"metadata": {"labels": {"team": ""}, "annotations": {"a.b/c": "d e"}}}},
    "labels that Kubernetes recommends": labels(
        **{f"app.kubernetes.io__{name}": "billing" for name in ("name", "instance", "version", "component", "part-of")}
    ),
    "labels and annotations of Kubernetes and of tools": {
        "target": {
            "metadata": {
                "labels": {"helm.sh/chart": "a-1.0.0", "topology.kubernetes.io/region": "eu-west-1", "k8s.io/x": "z"},
                "annotations": {"kubernetes.io/description": "of billing", "Reloader.Stakater.com/match": "true"},
            }
        }
    },
    "label with the longest name": labels(**{f"{'a.' * 126}b__{'c' * 63}": "1"}),
    "label whose prefix only resembles keyturn.dev": labels(notkeyturn__x="1"),
    "deletionPolicy Retain": {"target": {"deletionPolicy": "Retain", "secretName": "other.name"}},
    "renewBefore in hours, minutes and seconds": renewal("0h59m59s"),
    "renewBefore just below durationSeconds": renewal("899s", 900),
    "percentage": {"renewal": {"renewBeforePercentage": 99}},
    "empty renewal": {"renewal": {}},
    "suspended": {"suspend": True},
    "access keys for a session": with_user_keys(),
    "access keys for a role": with_user_keys(assume(roleSessionName="me", durationSeconds=43200, region="eu-west-1")),
    "longest session of an IAM user": with_user_keys(session(129600)),
    "session of an IAM user, then a role for 12 hours": with_user_keys(SESSION, assume(durationSeconds=43200)),
    "role after a role for an hour": with_user_keys(assume(), assume(durationSeconds=3600)),
    "role after a role without durationSeconds": with_user_keys(assume(), assume()),
    "role after a web identity": {"exchanges": [ASSUME_ROLE, assume(durationSeconds=3600)]},
    "token and credentials": {
        "source": with_source_token()["source"] | with_user_keys()["source"],
        "exchanges": [assume()],
    },
    "source token and credentials": {"exchanges": [ASSUME_ROLE]} | formats({"env": {}}, {"token": {}}),
    "six exchanges": with_user_keys(*[assume()] * 6),
    "refresh_token grant without a region": refresh() | {"region": None},
    "refresh_token grant, then a role": {"exchanges": [REFRESH, ASSUME_ROLE]},
    "refresh_token grant with all fields": refresh(
        tokenUrl="https://issuer.example:8443/realms/a%20b/token",
        clientId="a client: 1",
        clientSecretFrom=secret_at("client"),
        clientAuthentication="client_secret_post",
        scope=["openid", "https://api.example/x!"],
        caBundleFrom=secret_at("ca", "ca.crt"),
    ),
    "token endpoint with a query": token_url("https://issuer.example/token?p=B2C_1_signin&a=b/c?d@e"),
    "token endpoint with a query and no path": token_url("https://issuer.example?p=a%2Fb"),
    "token endpoint without a path": token_url("https://issuer.example"),
    "token endpoint with an IP address": token_url("https://[2001:db8::1]:8443/token"),
    "source Secret with the longest name for which there is a token Secret": refresh() | source_token("a" * 245),
    "source Secret with the longest name, and saveTo": refresh()
    | {
        "source": {
            "token": {"secretKeyRef": {"name": "a" * 253, "key": "token"}, "saveTo": {"secretName": "license-live"}}
        }
    },
    "source Secret with the longest name, which is not consumed": source_token("a" * 253),
    "saveTo": refresh() | with_source_token(saveTo={"secretName": "license-live"}),
    "saveTo with labels and annotations": refresh()
    | with_source_token(
        saveTo={
            "secretName": "license-keyturn",
            "metadata": {"labels": {"team": "blue"}, "annotations": {"example.com/owner": "billing"}},
        }
    ),
    "target with the default name of the token Secret, and saveTo": refresh()
    | with_source_token(saveTo={"secretName": "license-live"})
    | {"target": {"secretName": "license-keyturn"}},
    "renewBefore longer than a role that is not the last exchange": with_user_keys(
        assume(), {"ecrGetAuthorizationToken": {}}, renewal={"renewBefore": "2h"}
    ),
    "renewBefore just below the default session of an IAM user": with_user_keys(renewal={"renewBefore": "11h59m59s"}),
}
