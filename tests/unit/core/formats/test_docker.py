import base64
import json
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import RegistryLogin
from tests.support.controlplane.build import binary
from tests.support.dependencies import HOUR, NOW
from tests.support.pipeline_values import HELD, LOGIN, REGISTRY, rendered
from tests.unit.core.formats.test_registry import VALUE

OTHER = RegistryLogin("public.ecr.aws", "AWS", "b3RoZXI=", NOW + HOUR)
DOCKER = ".dockerconfigjson"
HOSTS = st.from_regex(r"[a-z0-9.-]{1,60}(:[0-9]{1,5})?", fullmatch=True)


def written(*logins: RegistryLogin) -> dict[str, str]:
    return rendered({"dockerConfigJson": {}}, held=replace(HELD, registry_logins=logins))


def test_it_is_what_kubectl_makes() -> None:
    command = ("create", "secret", "docker-registry", "it", f"--docker-server={REGISTRY}", "--docker-username=AWS")
    more = (f"--docker-password={LOGIN.password}", "--dry-run=client", "--output=json")
    made = subprocess.run([binary("kubectl"), *command, *more], capture_output=True, check=True).stdout
    theirs = json.loads(base64.b64decode(json.loads(made)["data"][DOCKER]))

    assert json.loads(written(LOGIN)[DOCKER]) == theirs


def test_several_registries_are_in_one_and_it_ends_with_the_first_of_them() -> None:
    data = written(LOGIN, OTHER)

    assert list(json.loads(data[DOCKER])["auths"]) == [REGISTRY, "public.ecr.aws"]
    assert data["expiration"] == "2026-01-02T04:04:05Z"


def test_of_two_logins_at_one_host_the_later_counts() -> None:
    data = written(replace(LOGIN, password="b2xk", expires_at=NOW), LOGIN)

    assert json.loads(data[DOCKER])["auths"][REGISTRY]["password"] == LOGIN.password
    assert data["expiration"] == "2026-01-02T15:04:05Z"


@given(st.dictionaries(HOSTS, VALUE, min_size=1, max_size=5))
def test_a_docker_config_reader_gets_every_password(passwords: dict[str, str]) -> None:
    data = written(*(RegistryLogin(host, "AWS", password, NOW) for host, password in passwords.items()))
    auths = json.loads(data[DOCKER])["auths"]

    assert {host: one["password"] for host, one in auths.items()} == passwords
    assert {host: base64.b64decode(one["auth"]).decode() for host, one in auths.items()} == {
        host: f"AWS:{password}" for host, password in passwords.items()
    }


def test_an_odd_password_is_refused_by_the_name_of_its_host() -> None:
    with pytest.raises(RefusedError, match=f"the password of {REGISTRY} is empty or holds") as refused:
        written(replace(LOGIN, password='a"b'))

    assert 'a"b' not in refused.value.message
