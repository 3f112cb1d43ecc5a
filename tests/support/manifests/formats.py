"""Specs with the formats that are not in the flagship, good and bad."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE
from tests.support.manifests.parts import assume, config, formats, of_user, template

_RESERVED_KEY = "key must not be one of AWS_ACCESS_KEY_ID"
_SAME_KEY = "two formats write the same key: give one of them another `key`"
_NO_CREDENTIALS = "a format that holds credentials needs an exchange that gives them"
_NO_TOKEN_GIVEN = "a format that holds token needs an exchange that gives them"
_NO_LOGIN = "a format that holds registryLogins needs an exchange that gives them"
_NO_ENDPOINT = "a format that holds packageEndpoints needs an exchange that gives them"
_UNKNOWN_NAME = "in text, {{ may only begin {{ NAME }}, with a NAME of accessToken, idToken"
_WHICH = "pip, npm and maven need one repository of their kind"
_ENDLESS = "formats write nothing that ends, so it could not be renewed in time"
_NO_FILE = "awsConfig names the file of a credentialProcess format: give one beside it"

_DOMAIN = {"domain": "acme", "domainOwner": "111122223333"}
_NOT_ITS_TOKEN = "the password of package endpoints is the token given with them: no later exchange may give a token"


def packages(*kinds: str, **more: list[str]) -> dict[str, Any]:
    """A domain, with these kinds of package in the repository `main`, and others in more repositories."""
    listed = ({"main": list(kinds)} if kinds else {}) | more
    wanted = [{"repository": name, "formats": those} for name, those in listed.items()]
    return {"codeArtifactGetAuthorizationToken": _DOMAIN | ({"repositories": wanted} if wanted else {})}


ECR: dict[str, Any] = {"ecrGetAuthorizationToken": {}}

GOOD: dict[str, dict[str, Any]] = {
    "logins of several registries and regions": of_user(
        ECR,
        {"ecrGetAuthorizationToken": {"region": "eu-west-1"}},
        {"ecrGetAuthorizationToken": {"public": True}},
        **formats({"dockerConfigJson": {}}, template("{{ registryPassword }}")),
    ),
    "every format of packages": of_user(
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
    "packages of one repository among several": of_user(
        packages("pypi", "npm", **{"other": ["npm"], "m" * 100: ["maven"]}),
        **formats({"pip": {}}, {"npm": {"repository": "other"}}, {"maven": {"repository": "m" * 100}}),
    ),
    "the endpoint of the only repository": of_user(
        packages("cargo"), **formats(template("{{ packageEndpoint }} {{ accessToken }}"))
    ),
    "packages and images": of_user(packages("npm"), ECR, **formats({"npm": {}}, {"dockerConfigJson": {}})),
    "every format of credentials and a token": formats(
        {"env": {}},
        {"credentialProcess": {}},
        {"credentialsFile": {}},
        {"token": {}},
        {"webIdentityToken": {}},
        {"awsConfig": {}},
        template("{{ accessToken }}"),
    ),
    "a config file before the file that it names": formats({"awsConfig": {}}, {"credentialProcess": {"key": "a"}}),
    "a config file that is mounted elsewhere": config(mountPath="/etc/my-app/a_b.c+d@e", key="aws_config"),
    "a token of a source for an SDK": formats({"webIdentityToken": {"key": "token"}}) | {"exchanges": [ASSUME_ROLE]},
    "a template with every name of credentials": formats(
        template("{{accessKeyId}}{{ secretAccessKey }}{{  sessionToken}}{{principal  }}")
    ),
    "a template of nothing that travels": formats(
        {"env": {}}, template("{{ region }} {{ expiration }}\n{{identityId}}")
    ),
    "a template with braces of its own": formats({"env": {}}, template('{"a": {"b": "{{ idToken }}"}}}} } { {a')),
    "a template without a name": formats({"env": {}}, template("\n")),
    "a template as long as can be": formats({"token": {}}, *(template("{a" * 8192, key=f"k{n}") for n in range(7))),
    "templates as long as can be, of which the last ends": formats(
        *(template("{a" * 8192, key=f"k{n}") for n in range(7)), template("{a" * 8180 + "{{accessKeyId}}", key="k")
    ),
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a template of facts alone": (
        formats(template("{{ principal }} {{ tokenId }} {{ region }} {{ identityId }} {{ expiration }}")),
        _ENDLESS,
    ),
    "a template without a name alone": (formats(template("a")), _ENDLESS),
    "a template of an endpoint alone": (
        of_user(packages("npm"), **formats(template("{{ packageEndpoint }}"))),
        _ENDLESS,
    ),
    "two templates of facts": (formats(template("a"), template("{{ principal }}", key="b")), _ENDLESS),
    "an endpoint of a domain before another": (
        of_user(packages("npm"), packages(), **formats(template("{{ packageEndpoint }}"))),
        _NOT_ITS_TOKEN,
    ),
    "packages of two domains": (
        of_user(packages("npm"), packages("pypi"), **formats({"npm": {}})),
        _NOT_ITS_TOKEN,
    ),
    "packages of no repository": (of_user(packages(), **formats({"pip": {}})), _WHICH),
    "packages of no repository of that kind": (of_user(packages("npm"), **formats({"pip": {}})), _WHICH),
    "packages of one of two repositories": (
        of_user(packages("npm", other=["npm"]), **formats({"npm": {}})),
        _WHICH,
    ),
    "packages of another repository": (
        of_user(packages("npm", other=["maven"]), **formats({"npm": {"repository": "other"}})),
        _WHICH,
    ),
    "the endpoint of two repositories": (
        of_user(packages("npm", other=["npm"]), **formats(template("{{ packageEndpoint }}{{ accessToken }}"))),
        _WHICH,
    ),
    "the endpoint of two kinds of package": (
        of_user(packages("npm", "pypi"), **formats(template("{{ packageEndpoint }}{{ accessToken }}"))),
        _WHICH,
    ),
    "a token for an SDK where no exchange gives any": (
        of_user(**formats({"webIdentityToken": {}})),
        _NO_TOKEN_GIVEN,
    ),
    "a config file alone": (formats({"awsConfig": {}}), _NO_FILE),
    "a config file beside another file than it can name": (
        formats({"awsConfig": {}}, {"credentialsFile": {}}),
        _NO_FILE,
    ),
    "a config file with the key of the file that it names": (
        formats({"awsConfig": {}}, {"credentialProcess": {"key": "config"}}),
        _SAME_KEY,
    ),
    "a config file under a reserved key": (config(key="expiration"), _RESERVED_KEY),
    "a mount path that is relative": (config(mountPath="etc/aws"), "awsConfig.mountPath"),
    "a mount path with a slash at the end": (config(mountPath="/etc/aws/"), "awsConfig.mountPath"),
    "a mount path with a space": (config(mountPath="/etc/my aws"), "awsConfig.mountPath"),
    "a mount path with a command": (config(mountPath="/etc/$(id)"), "awsConfig.mountPath"),
    "a mount path with a newline at the end": (config(mountPath="/etc/aws\n"), "awsConfig.mountPath"),
    "a mount path of 513 characters": (config(mountPath="/" + "a" * 512), "awsConfig.mountPath"),
    "registry logins where no exchange gives any": (formats({"dockerConfigJson": {}}), _NO_LOGIN),
    "registry logins twice": (formats({"dockerConfigJson": {}}, {"dockerConfigJson": {}}), _SAME_KEY),
    "registry logins and a token under their key": (
        formats({"dockerConfigJson": {}}, {"token": {"key": ".dockerconfigjson"}}),
        _SAME_KEY,
    ),
    "registry logins under another key": (formats({"dockerConfigJson": {"key": "a"}}), "unknown field"),
    "pip where no exchange gives a repository": (formats({"pip": {}}), _NO_ENDPOINT),
    "npm where no exchange gives a repository": (formats({"npm": {}}), _NO_ENDPOINT),
    "Maven where no exchange gives a repository": (formats({"maven": {}}), _NO_ENDPOINT),
    "pip twice": (formats({"pip": {}}, {"pip": {}}), _SAME_KEY),
    "npm and Maven under one key": (formats({"npm": {"key": "a"}}, {"maven": {"key": "a"}}), _SAME_KEY),
    "a repository of one character": (formats({"pip": {"repository": "a"}}), "pip.repository"),
    "a repository that is a path": (formats({"npm": {"repository": "a/b"}}), "npm.repository"),
    "a repository with a newline at the end": (formats({"maven": {"repository": "ab\n"}}), "maven.repository"),
    "a repository of 101 characters": (formats({"pip": {"repository": "a" * 101}}), "pip.repository"),
    "a scope without its sign": (formats({"npm": {"scope": "acme"}}), "npm.scope"),
    "a scope with a capital": (formats({"npm": {"scope": "@Acme"}}), "npm.scope"),
    "a scope with a newline at the end": (formats({"npm": {"scope": "@acme\n"}}), "npm.scope"),
    "a scope of 215 characters": (formats({"npm": {"scope": "@" + "a" * 214}}), "npm.scope"),
    "a server with markup": (formats({"maven": {"serverId": "<id>"}}), "maven.serverId"),
    "a server without a name": (formats({"maven": {"serverId": ""}}), "maven.serverId"),
    "a server with a long name": (formats({"maven": {"serverId": "a" * 129}}), "maven.serverId"),
    "a template without a key": (formats({"template": {"text": "a"}}), "key"),
    "a template without a text": (formats({"template": {"key": "a"}}), "text"),
    "an empty template": (formats(template("")), "template.text"),
    "a template that is too long": (formats(template("a" * 16385)), "template.text"),
    "a template under a reserved key": (formats(template("a", key="AWS_REGION")), _RESERVED_KEY),
    "two templates with one key": (formats(template("a"), template("b")), _SAME_KEY),
    "a template under the key of another format": (
        formats({"env": {}}, {"token": {}}, template("a", "token")),
        _SAME_KEY,
    ),
    "a template with an unknown name": (formats(template("{{ accessToken }} {{ password }}")), _UNKNOWN_NAME),
    "a template with a name in other letters": (formats(template("{{ accesstoken }}")), _UNKNOWN_NAME),
    "a template with logic": (formats(template("{{#accessToken}}x{{/accessToken}}")), _UNKNOWN_NAME),
    "a template with a pipe": (formats(template("{{ accessToken | b64enc }}")), _UNKNOWN_NAME),
    "a template with three braces": (formats(template("{{{ accessToken }}}")), _UNKNOWN_NAME),
    "a template with braces that do not end": (formats(template("{{ accessToken }")), _UNKNOWN_NAME),
    "a template with empty braces": (formats(template("a {{}} b")), _UNKNOWN_NAME),
    "a template with braces at the end": (formats(template("{{ accessToken }}{{")), _UNKNOWN_NAME),
    "a template with a newline in the braces": (formats(template("{{\naccessToken }}")), _UNKNOWN_NAME),
    "a template of credentials that no exchange gives": (
        {"exchanges": [ACCESS_TOKEN]} | formats(template("{{ accessKeyId }}")),
        _NO_CREDENTIALS,
    ),
    "a template of a token that only the source gives": (
        {"exchanges": [ASSUME_ROLE]} | formats(template("{{ accessToken }}")),
        _NO_TOKEN_GIVEN,
    ),
    "a template of a token that nothing gives": (of_user(**formats(template("{{ idToken }}"))), _NO_TOKEN_GIVEN),
    "a template of a login that no exchange gives": (formats(template("x:{{registryPassword}}")), _NO_LOGIN),
    "a template of a region that is not there": (
        of_user(assume(region="us-east-1"), region=None, **formats(template("{{ accessKeyId }} {{ region }}"))),
        "region in a template is spec.region, which is not there",
    ),
    "a template of an endpoint that no exchange gives": (formats(template("{{ packageEndpoint }}")), _NO_ENDPOINT),
}
