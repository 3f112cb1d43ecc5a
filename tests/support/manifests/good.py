"""Specs that are taken."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH
from tests.support.manifests.parts import (
    SESSION,
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
)

GOOD: dict[str, dict[str, Any]] = {
    "the flagship": {},
    "a token only": {"exchanges": [ACCESS_TOKEN]},
    "a source that is an ID token already": {"exchanges": [ASSUME_ROLE]},
    "token properties": {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": ["a", "b", "c"]}}]},
    "a region to each exchange": {
        "region": None,
        "exchanges": [{"licenseManagerGetAccessToken": {"region": "us-east-1"}}],
    },
    "a role of another partition": role(roleArn="arn:aws-us-gov:iam::111122223333:role/team/a=b@c"),
    "a session name and the longest duration": role(roleSessionName="a=b,c.d@e+f", durationSeconds=43200),
    "every format of the flagship": formats(
        {"env": {}}, {"credentialProcess": {}}, {"credentialsFile": {}}, {"token": {}}
    ),
    "one format twice, with two keys": formats({"token": {}}, {"token": {"key": "other"}}),
    "a token format beside a role": formats({"token": {"key": "web_identity_token"}}),
    "a profile": formats({"credentialsFile": {"profile": "me@work.example"}}),
    "labels and annotations": {"target": {"metadata": {"labels": {"team": ""}, "annotations": {"a.b/c": "d e"}}}},
    "a label with a name as long as can be": labels(**{f"{'a.' * 126}b__{'c' * 63}": "1"}),
    "a label under a name that only looks like ours": labels(notkeyturn__x="1"),
    "a Secret that is retained": {"target": {"deletionPolicy": "Retain", "secretName": "other.name"}},
    "renewBefore in hours, minutes and seconds": renewal("0h59m59s"),
    "renewBefore just within the duration": renewal("899s", 900),
    "a percentage": {"renewal": {"renewBeforePercentage": 99}},
    "no wish about renewal": {"renewal": {}},
    "suspended": {"suspend": True},
    "a user's keys for a session": of_user(),
    "a user's keys for a role": of_user(assume(roleSessionName="me", durationSeconds=43200, region="eu-west-1")),
    "the longest session of a user": of_user(session(129600)),
    "a user's session and then a role for 12 hours": of_user(SESSION, assume(durationSeconds=43200)),
    "a role after a role for an hour": of_user(assume(), assume(durationSeconds=3600)),
    "a role after a role as long as AWS likes": of_user(assume(), assume()),
    "a role after a web identity": {"exchanges": [ASSUME_ROLE, assume(durationSeconds=3600)]},
    "a token and credentials": {
        "source": of_token()["source"] | of_user()["source"],
        "exchanges": [assume()],
    },
    "a source token beside credentials": {"exchanges": [ASSUME_ROLE]} | formats({"env": {}}, {"token": {}}),
    "six exchanges": of_user(*[assume()] * 6),
    "a refresh at an issuer, without a region": refresh() | {"region": None},
    "a refresh and then a role": {"exchanges": [REFRESH, ASSUME_ROLE]},
    "a refresh with all that can be said": refresh(
        tokenUrl="https://issuer.example:8443/realms/a%20b/token",
        clientId="a client: 1",
        clientSecretFrom=secret_at("client"),
        clientAuthentication="client_secret_post",
        scope=["openid", "https://api.example/x!"],
        caBundleFrom=secret_at("ca", "ca.crt"),
    ),
    "a token endpoint without a path": at("https://issuer.example"),
    "a token endpoint by its address": at("https://[2001:db8::1]:8443/token"),
    "a token that is kept elsewhere": refresh() | of_token(saveTo={"secretName": "license-live"}),
    "a target with the default name of the kept token, which is elsewhere": refresh()
    | of_token(saveTo={"secretName": "license-live"})
    | {"target": {"secretName": "license-keyturn"}},
    "renewBefore beyond a role that only leads to a pull secret": of_user(
        assume(), {"ecrGetAuthorizationToken": {}}, renewal={"renewBefore": "2h"}
    ),
    "renewBefore just within the default session of a user": of_user(renewal={"renewBefore": "11h59m59s"}),
}
