"""The configuration files of container and package clients."""

import base64
import json
from urllib.parse import quote
from xml.sax.saxutils import escape

from keyturn.api.formats.packages import DockerConfigJsonFormat, MavenFormat, NpmFormat, PipFormat
from keyturn.core.formats.context import FormatContext, package_endpoint, package_password, registry_logins
from keyturn.core.pipeline_values import require_safe

# The user name that CodeArtifact expects.
_USER = "aws"
_AUTH = '"": {"username": "", "password": "", "auth": "===="}, '


def docker_config_json(context: FormatContext[DockerConfigJsonFormat]) -> str:
    """The file that `kubectl create secret docker-registry` writes, for all registries together."""
    auths, size = {}, 0
    logins = registry_logins(context.values)
    own = {login.host: login for login in logins}
    more = {host: login for login in logins for host in login.more_hosts}
    for host, login in (own | {host: more[host] for host in more if host not in own}).items():
        password = require_safe(login.password, f"the password of {login.host}")
        # The user name and the password, each also in base64, and the JSON around them.
        size += len(host) + (len(login.username) + len(password)) * 7 // 3 + len(_AUTH)
        context.check_size(size)
        auth = base64.b64encode(f"{login.username}:{password}".encode()).decode()
        auths[host] = {"username": login.username, "password": password, "auth": auth}
    return json.dumps({"auths": auths})


def pip(context: FormatContext[PipFormat]) -> str:
    """A pip.conf. The password is part of the URL and therefore percent-encoded (RFC 3986 section 3.2.1)."""
    url = package_endpoint("pypi", context.options.repository, context.values).url.rstrip("/")
    scheme, _, location = url.partition("://")
    password = quote(package_password(context.values), safe="")
    return f"[global]\nindex-url = {scheme}://{_USER}:{password}@{location}/simple/\n"


def npm(context: FormatContext[NpmFormat]) -> str:
    """An .npmrc. npm finds the token by the URL of the registry, without its scheme and with a final slash."""
    url = package_endpoint("npm", context.options.repository, context.values).url.rstrip("/") + "/"
    prefix = f"{context.options.scope}:" if context.options.scope else ""
    return f"{prefix}registry={url}\n//{url.partition('://')[2]}:_authToken={package_password(context.values)}\n"


def maven(context: FormatContext[MavenFormat]) -> str:
    """A settings.xml: the server with the token, and an active profile with its repository, also for plugins."""
    endpoint = package_endpoint("maven", context.options.repository, context.values)
    server, url = escape(context.options.server_id or endpoint.repository), escape(endpoint.url)
    # Maven expands ${...} and {...} in a value, but a token of RFC 6750 contains no braces.
    password = escape(package_password(context.values))
    return f"""\
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">
  <servers>
    <server><id>{server}</id><username>{_USER}</username><password>{password}</password></server>
  </servers>
  <profiles>
    <profile>
      <id>{server}</id>
      <repositories><repository><id>{server}</id><url>{url}</url></repository></repositories>
      <pluginRepositories>
        <pluginRepository><id>{server}</id><url>{url}</url></pluginRepository>
      </pluginRepositories>
    </profile>
  </profiles>
  <activeProfiles><activeProfile>{server}</activeProfile></activeProfiles>
</settings>
"""
