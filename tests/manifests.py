"""Good and bad TokenRequests. Python and the API server must agree about each.

The sentence is what both say of a bad one: our rule's, else the path of the field. None means a good one.
"""

from typing import Any

from tests.world import ACCESS_TOKEN, ASSUME_ROLE, ROLE, manifest

_EXACTLY_ONE_OPERATION = "give exactly one of licenseManagerGetAccessToken, assumeRoleWithWebIdentity"
_EXACTLY_ONE_FORMAT = "give exactly one of env, credentialProcess, credentialsFile, token"
_RESERVED_KEY = "key must not be one of AWS_ACCESS_KEY_ID"
_SAME_KEY = "two formats write the same key: give one of them another `key`"
_METADATA = "labels and annotations under keyturn.dev, kubernetes.io or k8s.io are not yours to set here"
_NO_REGION = "region is missing: give spec.region, or a region to each exchange"
_NO_CREDENTIALS = "a format that holds credentials needs an exchange that gives them"
_SAME_SECRET = "the target Secret must not be the Secret that the source is read from"
_TOO_EARLY = "renewal.renewBefore must be shorter than the durationSeconds (default 3600) of the role"


def _role(**changes: Any) -> dict[str, Any]:
    return {"exchanges": [ACCESS_TOKEN, {"assumeRoleWithWebIdentity": {"roleArn": ROLE} | changes}]}


def _formats(*formats: dict[str, Any]) -> dict[str, Any]:
    return {"target": {"formats": list(formats)}}


def _labels(**labels: str) -> dict[str, Any]:
    return {"target": {"metadata": {"labels": {key.replace("__", "/"): value for key, value in labels.items()}}}}


def _annotation(key: str) -> dict[str, Any]:
    return {"target": {"metadata": {"annotations": {key: "x"}}}}


def _source(name: str = "license", key: str = "license_token") -> dict[str, Any]:
    return {"source": {"token": {"secretKeyRef": {"name": name, "key": key}}}}


def _renewal(before: str, seconds: int | None = None) -> dict[str, Any]:
    return {"renewal": {"renewBefore": before}} | (_role(durationSeconds=seconds) if seconds else {})


_GOOD: dict[str, dict[str, Any]] = {
    "the flagship": {},
    "a token only": {"exchanges": [ACCESS_TOKEN]},
    "a source that is an ID token already": {"exchanges": [ASSUME_ROLE]},
    "token properties": {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": ["a", "b", "c"]}}]},
    "a region to each exchange": {
        "region": None,
        "exchanges": [{"licenseManagerGetAccessToken": {"region": "us-east-1"}}],
    },
    "a role of another partition": _role(roleArn="arn:aws-us-gov:iam::111122223333:role/team/a=b@c"),
    "a session name and the longest duration": _role(roleSessionName="a=b,c.d@e+f", durationSeconds=43200),
    "every format": _formats({"env": {}}, {"credentialProcess": {}}, {"credentialsFile": {}}, {"token": {}}),
    "one format twice, with two keys": _formats({"token": {}}, {"token": {"key": "other"}}),
    "a token format beside a role": _formats({"token": {"key": "web_identity_token"}}),
    "a profile": _formats({"credentialsFile": {"profile": "me@work.example"}}),
    "labels and annotations": {"target": {"metadata": {"labels": {"team": ""}, "annotations": {"a.b/c": "d e"}}}},
    "a label under a name that only looks like ours": _labels(notkeyturn__x="1"),
    "a Secret that is retained": {"target": {"deletionPolicy": "Retain", "secretName": "other.name"}},
    "renewBefore in hours, minutes and seconds": _renewal("0h59m59s"),
    "renewBefore just within the duration": _renewal("899s", 900),
    "a percentage": {"renewal": {"renewBeforePercentage": 99}},
    "no wish about renewal": {"renewal": {}},
    "suspended": {"suspend": True},
}

_BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"source": None}, "source"),
    "a source without a way": ({"source": {}}, "token"),
    "a source without a key": ({"source": {"token": {"secretKeyRef": {"name": "license"}}}}, "key"),
    "a source Secret that no Secret can be named": (_source("License"), "spec.source.token.secretKeyRef.name"),
    "a source Secret with a newline at the end": (_source("license\n"), "spec.source.token.secretKeyRef.name"),
    "a source key with a slash": (_source(key="a/b"), "spec.source.token.secretKeyRef.key"),
    "a source that is the target by default": (_source("acme"), _SAME_SECRET),
    "a source that is the target": ({"target": {"secretName": "license"}}, _SAME_SECRET),
    "no exchanges": ({"exchanges": None}, "exchanges"),
    "an empty list of exchanges": ({"exchanges": []}, "spec.exchanges"),
    "seven exchanges": ({"exchanges": [ACCESS_TOKEN] * 7}, "spec.exchanges"),
    "an exchange without an operation": ({"exchanges": [{}]}, _EXACTLY_ONE_OPERATION),
    "two operations in one exchange": ({"exchanges": [ACCESS_TOKEN | ASSUME_ROLE]}, _EXACTLY_ONE_OPERATION),
    "an unknown operation": ({"exchanges": [{"assumeRole": {}}]}, "unknown field"),
    "an unknown field of the spec": ({"sources": []}, "unknown field"),
    "four token properties": (
        {"exchanges": [{"licenseManagerGetAccessToken": {"tokenProperties": list("abcd")}}]},
        "spec.exchanges[0].licenseManagerGetAccessToken.tokenProperties",
    ),
    "a role without an ARN": ({"exchanges": [{"assumeRoleWithWebIdentity": {}}]}, "roleArn"),
    "a user's ARN": (_role(roleArn="arn:aws:iam::111122223333:user/LicenseConsumer"), "roleArn"),
    "an ARN with a newline at the end": (_role(roleArn=f"{ROLE}\n"), "roleArn"),
    "a session name of one character": (_role(roleSessionName="a"), "roleSessionName"),
    "a session name of 65 characters": (_role(roleSessionName="a" * 65), "roleSessionName"),
    "a session name with a space": (_role(roleSessionName="a b"), "roleSessionName"),
    "a duration under 15 minutes": (_role(durationSeconds=899), "durationSeconds"),
    "a duration over 12 hours": (_role(durationSeconds=43201), "durationSeconds"),
    "a duration that is a word": (_role(durationSeconds="3600"), "durationSeconds"),
    "no region at all": ({"region": None}, _NO_REGION),
    "a region to one of two exchanges": ({"region": None} | _role(region="us-east-1"), _NO_REGION),
    "a region with a dot": ({"region": "us-east-1.evil.example"}, "spec.region"),
    "a region with a newline at the end": ({"region": "us-east-1\n"}, "spec.region"),
    "an empty region": ({"region": ""}, "spec.region"),
    "a region of an exchange that is a host": (_role(region="a/b"), "assumeRoleWithWebIdentity.region"),
    "an empty list of formats": (_formats(), "spec.target.formats"),
    "nine formats": (_formats(*({"token": {"key": f"k{n}"}} for n in range(9))), "spec.target.formats"),
    "a format without a member": (_formats({}), _EXACTLY_ONE_FORMAT),
    "two members in one format": (_formats({"env": {}, "token": {}}), _EXACTLY_ONE_FORMAT),
    "env twice": (_formats({"env": {}}, {"env": {}}), _SAME_KEY),
    "two formats with one key": (_formats({"token": {}}, {"credentialsFile": {"key": "token"}}), _SAME_KEY),
    "a key that env writes": (_formats({"token": {"key": "AWS_REGION"}}), _RESERVED_KEY),
    "a key that is always written": (_formats({"credentialProcess": {"key": "expiration"}}), _RESERVED_KEY),
    "a key with a newline at the end": (_formats({"token": {"key": "token\n"}}), "token.key"),
    "a profile with a bracket": (_formats({"credentialsFile": {"profile": "a]"}}), "credentialsFile.profile"),
    "credentials where no exchange gives any": (
        {"exchanges": [ACCESS_TOKEN]} | _formats({"env": {}}),
        _NO_CREDENTIALS,
    ),
    "a label of ours": (_labels(**{"keyturn.dev__x": "1"}), _METADATA),
    "a label of Kubernetes": (_labels(**{"app.kubernetes.io__managed-by": "me"}), _METADATA),
    "an annotation of ours": (_annotation("keyturn.dev/marks"), _METADATA),
    "an annotation below our domain": (_annotation("sub.keyturn.dev/marks"), _METADATA),
    "a label value with a space": (_labels(team="a b"), "spec.target.metadata.labels"),
    "a label value with a newline at the end": (_labels(team="a\n"), "spec.target.metadata.labels"),
    "33 labels": (_labels(**{f"l{n}": "x" for n in range(33)}), "spec.target.metadata.labels"),
    "an unknown deletion policy": ({"target": {"deletionPolicy": "Orphan"}}, "spec.target.deletionPolicy"),
    "a target Secret with a slash": ({"target": {"secretName": "a/b"}}, "spec.target.secretName"),
    "both ways to say when to renew": (
        {"renewal": {"renewBefore": "5m", "renewBeforePercentage": 5}},
        "give renewBefore or renewBeforePercentage, not both",
    ),
    "renewBefore of no length": (_renewal("0s"), "renewBefore must be at least 1s"),
    "renewBefore without a unit": (_renewal("20"), "spec.renewal.renewBefore"),
    "renewBefore in days": (_renewal("1d"), "spec.renewal.renewBefore"),
    "renewBefore with a newline at the end": (_renewal("20m\n"), "spec.renewal.renewBefore"),
    "renewBefore as long as the default duration": (_renewal("1h"), _TOO_EARLY),
    "renewBefore as long as the duration": (_renewal("15m", 900), _TOO_EARLY),
    "a percentage of all": ({"renewal": {"renewBeforePercentage": 100}}, "renewBeforePercentage"),
    "suspend as a word": ({"suspend": "yes"}, "spec.suspend"),
}

MANIFESTS: dict[str, tuple[dict[str, Any], str | None]] = {
    **{name: (manifest(**spec), None) for name, spec in _GOOD.items()},
    **{name: (manifest(**spec), says) for name, (spec, says) in _BAD.items()},
}
