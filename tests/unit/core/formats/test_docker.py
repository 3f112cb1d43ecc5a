import base64
import json
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import RegistryLogin
from tests.support.controlplane.build import binary
from tests.support.dependencies import HOUR, NOW
from tests.support.pipeline_values import LOGIN, REGISTRY, SAFE_TEXTS, VALUES, rendered

PUBLIC_LOGIN = RegistryLogin("public.ecr.aws", "AWS", "b3RoZXI=", NOW + HOUR)
KEY = ".dockerconfigjson"
HOSTS = st.from_regex(r"[a-z0-9.-]{1,60}(:[0-9]{1,5})?", fullmatch=True)


def rendered_logins(*logins: RegistryLogin) -> dict[str, str]:
    return rendered({"dockerConfigJson": {}}, values=replace(VALUES, registry_logins=logins))


def test_docker_config_equals_the_one_kubectl_writes() -> None:
    command = ("create", "secret", "docker-registry", "it", f"--docker-server={REGISTRY}", "--docker-username=AWS")
    more = (f"--docker-password={LOGIN.password}", "--dry-run=client", "--output=json")
    output = subprocess.run([binary("kubectl"), *command, *more], capture_output=True, check=True).stdout
    expected = json.loads(base64.b64decode(json.loads(output)["data"][KEY]))

    assert json.loads(rendered_logins(LOGIN)[KEY]) == expected


def test_docker_config_of_two_registries_expires_with_the_first() -> None:
    data = rendered_logins(LOGIN, PUBLIC_LOGIN)

    assert list(json.loads(data[KEY])["auths"]) == [REGISTRY, "public.ecr.aws"]
    assert data["expiration"] == "2026-01-02T04:04:05Z"


def test_last_login_of_a_host_wins() -> None:
    data = rendered_logins(replace(LOGIN, password="b2xk", expires_at=NOW), LOGIN)

    assert json.loads(data[KEY])["auths"][REGISTRY]["password"] == LOGIN.password
    assert data["expiration"] == "2026-01-02T15:04:05Z"


@settings(max_examples=30)
@given(st.dictionaries(HOSTS, SAFE_TEXTS, min_size=1, max_size=5))
def test_json_reader_reads_every_password_back(passwords: dict[str, str]) -> None:
    data = rendered_logins(*(RegistryLogin(host, "AWS", password, NOW) for host, password in passwords.items()))
    auths = json.loads(data[KEY])["auths"]

    assert {host: auth["password"] for host, auth in auths.items()} == passwords
    assert {host: base64.b64decode(auth["auth"]).decode() for host, auth in auths.items()} == {
        host: f"AWS:{password}" for host, password in passwords.items()
    }


def test_unsafe_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(RefusedError, match=f"the password of {REGISTRY} is empty or ") as error:
        rendered_logins(replace(LOGIN, password='a"b'))

    assert 'a"b' not in error.value.message
