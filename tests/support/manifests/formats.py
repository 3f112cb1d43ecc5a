"""Specs with target formats."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE
from tests.support.manifests.parts import assume, config, formats, template, with_user_keys

_DOMAIN = {"domain": "acme", "domainOwner": "111122223333"}


def packages(*package_formats: str, **more: list[str]) -> dict[str, Any]:
    """CodeArtifact with these package formats in the repository `main`, and more repositories."""
    by_name = ({"main": list(package_formats)} if package_formats else {}) | more
    repositories = [{"repository": name, "formats": listed} for name, listed in by_name.items()]
    return {"codeArtifactGetAuthorizationToken": _DOMAIN | ({"repositories": repositories} if repositories else {})}


ECR: dict[str, Any] = {"ecrGetAuthorizationToken": {}}

GOOD: dict[str, dict[str, Any]] = {
    "logins of several registries and regions": with_user_keys(
        ECR,
        {"ecrGetAuthorizationToken": {"region": "eu-west-1"}},
        {"ecrGetAuthorizationToken": {"public": True}},
        **formats({"dockerConfigJson": {}}, template("{{ registryPassword }}")),
    ),
    "all package formats": with_user_keys(
        packages("pypi", "npm", "maven"),
        **formats(
            {"pip": {"repository": "main", "key": "a"}},
            {"npm": {"scope": "@acme-1.b_c~"}},
            {"npm": {"key": "b", "repository": "main"}},
            {"maven": {"serverId": "acme--main.b_c"}},
            {"token": {}},
            template("{{ accessToken }}"),
        ),
    ),
    "one of several repositories": with_user_keys(
        packages("pypi", "npm", **{"other": ["npm"], "m" * 100: ["maven"]}),
        **formats({"pip": {}}, {"npm": {"repository": "other"}}, {"maven": {"repository": "m" * 100}}),
    ),
    "endpoint of the only repository": with_user_keys(
        packages("cargo"), **formats(template("{{ packageEndpoint }} {{ accessToken }}"))
    ),
    "package and image formats": with_user_keys(packages("npm"), ECR, **formats({"npm": {}}, {"dockerConfigJson": {}})),
    "all formats of credentials and tokens": formats(
        {"env": {}},
        {"credentialProcess": {}},
        {"credentialsFile": {}},
        {"token": {}},
        {"webIdentityToken": {}},
        {"awsConfig": {}},
        template("{{ accessToken }}"),
    ),
    "awsConfig before credentialProcess": formats({"awsConfig": {}}, {"credentialProcess": {"key": "a"}}),
    "awsConfig with another mount path": config(mountPath="/etc/my-app/a_b.c+d@e", key="aws_config"),
    "source token as webIdentityToken": formats({"webIdentityToken": {"key": "token"}}) | {"exchanges": [ASSUME_ROLE]},
    "template with all credential names": formats(
        template("{{accessKeyId}}{{ secretAccessKey }}{{  sessionToken}}{{principal  }}")
    ),
    "template with names that need no exchange": formats(
        {"env": {}}, template("{{ region }} {{ expiration }}\n{{identityId}}")
    ),
    "template with other braces": formats({"env": {}}, template('{"a": {"b": "{{ idToken }}"}}}} } { {a')),
    "template without a placeholder, and env": formats({"env": {}}, template("\n")),
    "7 longest templates": formats({"token": {}}, *(template("{a" * 8192, key=f"k{n}") for n in range(7))),
    "8 longest templates, the last with credentials": formats(
        *(template("{a" * 8192, key=f"k{n}") for n in range(7)), template("{a" * 8180 + "{{accessKeyId}}", key="k")
    ),
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "at least one format must contain a value that expires": {
        "template without an expiring value": formats(
            template("{{ principal }} {{ tokenId }} {{ region }} {{ identityId }} {{ expiration }}")
        ),
        "template without a placeholder": formats(template("a")),
        "template with only an endpoint": with_user_keys(packages("npm"), **formats(template("{{ packageEndpoint }}"))),
        "two templates without an expiring value": formats(template("a"), template("{{ principal }}", key="b")),
    },
    "package formats use the token that is issued with the endpoints as the password": {
        "endpoint of a domain before another domain": with_user_keys(
            packages("npm"), packages(), **formats(template("{{ packageEndpoint }}"))
        ),
        "packages of two domains": with_user_keys(packages("npm"), packages("pypi"), **formats({"npm": {}})),
    },
    "formats pip, npm and maven require exactly one matching CodeArtifact repository": {
        "pip without repositories": with_user_keys(packages(), **formats({"pip": {}})),
        "pip without a pypi repository": with_user_keys(packages("npm"), **formats({"pip": {}})),
        "npm with two npm repositories": with_user_keys(packages("npm", other=["npm"]), **formats({"npm": {}})),
        "npm with a repository of another format": with_user_keys(
            packages("npm", other=["maven"]), **formats({"npm": {"repository": "other"}})
        ),
    },
    "packageEndpoint in a template requires exactly one CodeArtifact repository": {
        "endpoint of two repositories": with_user_keys(
            packages("npm", other=["npm"]), **formats(template("{{ packageEndpoint }}{{ accessToken }}"))
        ),
        "endpoint of two package formats": with_user_keys(
            packages("npm", "pypi"), **formats(template("{{ packageEndpoint }}{{ accessToken }}"))
        ),
    },
    "formats that contain a token require source.token": {
        "webIdentityToken without a token": with_user_keys(**formats({"webIdentityToken": {}})),
        "template with a token that only the source provides": {"exchanges": [ASSUME_ROLE]}
        | formats(template("{{ accessToken }}")),
        "template with an ID token that no exchange produces": with_user_keys(**formats(template("{{ idToken }}"))),
    },
    "format awsConfig requires a credentialProcess format": {
        "awsConfig alone": formats({"awsConfig": {}}),
        "awsConfig with credentialsFile": formats({"awsConfig": {}}, {"credentialsFile": {}}),
    },
    "two formats write the same key: set a different `key` on one of them": {
        "awsConfig with the key of credentialProcess": formats(
            {"awsConfig": {}}, {"credentialProcess": {"key": "config"}}
        ),
        "dockerConfigJson twice": formats({"dockerConfigJson": {}}, {"dockerConfigJson": {}}),
        "token with the key of dockerConfigJson": formats(
            {"dockerConfigJson": {}}, {"token": {"key": ".dockerconfigjson"}}
        ),
        "pip twice": formats({"pip": {}}, {"pip": {}}),
        "npm and maven with one key": formats({"npm": {"key": "a"}}, {"maven": {"key": "a"}}),
        "two templates with one key": formats(template("a"), template("b")),
        "template with the key of another format": formats({"env": {}}, {"token": {}}, template("a", "token")),
    },
    "key must not be one of the reserved keys AWS_ACCESS_KEY_ID": {
        "awsConfig with a reserved key": config(key="expiration"),
        "template with a reserved key": formats(template("a", key="AWS_REGION")),
    },
    "awsConfig.mountPath": {
        "mount path that is relative": config(mountPath="etc/aws"),
        "mount path with a slash at the end": config(mountPath="/etc/aws/"),
        "mount path with a space": config(mountPath="/etc/my aws"),
        "mount path with a command": config(mountPath="/etc/$(id)"),
    },
    "formats that contain registry logins require one of these exchanges": {
        "dockerConfigJson without registry logins": formats({"dockerConfigJson": {}}),
        "template with a login that no exchange produces": formats(template("x:{{registryPassword}}")),
    },
    "unknown field": {"dockerConfigJson with a key": formats({"dockerConfigJson": {"key": "a"}})},
    "formats that contain package endpoints require one of these exchanges": {
        "pip without an endpoint": formats({"pip": {}}),
        "npm without an endpoint": formats({"npm": {}}),
        "maven without an endpoint": formats({"maven": {}}),
        "template with an endpoint that no exchange produces": formats(template("{{ packageEndpoint }}")),
    },
    "pip.repository": {"repository of one character in pip": formats({"pip": {"repository": "a"}})},
    "npm.repository": {"repository with a slash in npm": formats({"npm": {"repository": "a/b"}})},
    "maven.repository": {"repository with a newline at the end in maven": formats({"maven": {"repository": "ab\n"}})},
    "npm.scope": {
        "scope without an @": formats({"npm": {"scope": "acme"}}),
        "scope with a capital letter": formats({"npm": {"scope": "@Acme"}}),
    },
    "maven.serverId": {
        "serverId with markup": formats({"maven": {"serverId": "<id>"}}),
        "empty serverId": formats({"maven": {"serverId": ""}}),
    },
    "key": {"template without a key": formats({"template": {"text": "a"}})},
    "text": {"template without a text": formats({"template": {"key": "a"}})},
    "template.text": {
        "empty template": formats(template("")),
        "template of 16385 characters": formats(template("a" * 16385)),
    },
    "text may contain {{ only in placeholders {{ NAME }}, where NAME is one of accessToken, idToken": {
        "template with an unknown name": formats(template("{{ accessToken }} {{ password }}")),
        "template with a name in lower case": formats(template("{{ accesstoken }}")),
        "template with logic": formats(template("{{#accessToken}}x{{/accessToken}}")),
        "template with a pipe": formats(template("{{ accessToken | b64enc }}")),
        "template with three braces": formats(template("{{{ accessToken }}}")),
        "template with unclosed braces": formats(template("{{ accessToken }")),
        "template with empty braces": formats(template("a {{}} b")),
        "template with braces at the end": formats(template("{{ accessToken }}{{")),
        "template with a newline in the braces": formats(template("{{\naccessToken }}")),
    },
    "formats that contain credentials require one of these exchanges": {
        "template with credentials that no exchange produces": {"exchanges": [ACCESS_TOKEN]}
        | formats(template("{{ accessKeyId }}"))
    },
    "a template contains region, but spec.region is not set": {
        "template with a region that is not set": with_user_keys(
            assume(region="us-east-1"), region=None, **formats(template("{{ accessKeyId }} {{ region }}"))
        )
    },
}
