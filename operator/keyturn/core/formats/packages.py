"""The files of container and package clients."""

import base64
import json
from urllib.parse import quote
from xml.sax.saxutils import escape

from keyturn.api.formats.packages import MavenFormat, NpmFormat, PipFormat
from keyturn.api.token_request import Request
from keyturn.core.formats.values import endpoint, logins, password
from keyturn.core.pipeline_values import PipelineValues, safe

# CodeArtifact's one user name.
_USER = "aws"


def docker_config_json(_: object, __: Request, values: PipelineValues) -> str:
    """What `kubectl create secret docker-registry` makes, for all registries at once."""
    auths = {}
    for login in logins(values):
        secret = safe(login.password, f"the password of {login.host}")
        both = base64.b64encode(f"{login.username}:{secret}".encode()).decode()
        auths[login.host] = {"username": login.username, "password": secret, "auth": both}
    return json.dumps({"auths": auths})


def pip(options: PipFormat, _: Request, values: PipelineValues) -> str:
    """A pip.conf. The password is a part of the URL, and so percent-encoded (RFC 3986 section 3.2.1)."""
    url = endpoint("pypi", options.repository, values).url.rstrip("/")
    scheme, _colon, place = url.partition("://")
    return f"[global]\nindex-url = {scheme}://{_USER}:{quote(password(values), safe='')}@{place}/simple/\n"


def npm(options: NpmFormat, _: Request, values: PipelineValues) -> str:
    """An .npmrc. npm finds the token by the URL of the registry without its scheme, up to the last slash."""
    url = endpoint("npm", options.repository, values).url.rstrip("/") + "/"
    of_scope = f"{options.scope}:" if options.scope else ""
    return f"{of_scope}registry={url}\n//{url.partition('://')[2]}:_authToken={password(values)}\n"


def maven(options: MavenFormat, _: Request, values: PipelineValues) -> str:
    """A settings.xml: the server with the token, and an active profile with its repository."""
    found = endpoint("maven", options.repository, values)
    name, url = escape(options.server_id or found.repository), escape(found.url)
    # Maven reads ${...} and {...} in a value as its own; a token of RFC 6750 has neither.
    return f"""\
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">
  <servers>
    <server><id>{name}</id><username>{_USER}</username><password>{escape(password(values))}</password></server>
  </servers>
  <profiles>
    <profile>
      <id>{name}</id>
      <repositories><repository><id>{name}</id><url>{url}</url></repository></repositories>
    </profile>
  </profiles>
  <activeProfiles><activeProfile>{name}</activeProfile></activeProfiles>
</settings>
"""
