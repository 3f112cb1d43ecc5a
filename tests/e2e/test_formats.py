"""The files that tools read, from kubectl apply to a client that works with nothing else, through two renewals."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.namespace import ROLE, Namespace
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

WHO_AM_I = "import boto3; print(boto3.client('sts', 'us-east-1').get_caller_identity()['Arn'])"
SESSION = ROLE.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
FILE = "[default]\naws_access_key_id={{ accessKeyId }}\naws_secret_access_key={{secretAccessKey}}\n"
SCRIPT = """\
export AWS_ACCESS_KEY_ID={{ accessKeyId }} AWS_SECRET_ACCESS_KEY='{{ secretAccessKey }}'
export AWS_SESSION_TOKEN="{{ sessionToken }}" ENDS="{{ expiration }}"  # {{ principal }}
"""


@dataclass(frozen=True)
class Way:
    """Formats, and the variables by which an SDK finds them; {} is where the Secret is mounted."""

    formats: list[dict[str, Any]]
    variables: dict[str, str]
    spec: dict[str, Any] = field(default_factory=dict)
    before: str = "true"
    session: str = ""


WAYS = {
    "awsConfig": Way(
        [{"credentialProcess": {}}, {"awsConfig": {"mountPath": "{}"}}], {"AWS_CONFIG_FILE": "{}/config"}
    ),
    "webIdentityToken": Way(
        [{"webIdentityToken": {}}],
        {
            "AWS_WEB_IDENTITY_TOKEN_FILE": "{}/web_identity_token",
            "AWS_ROLE_ARN": ROLE,
            "AWS_ROLE_SESSION_NAME": "pod",
        },
        spec={"exchanges": [{"licenseManagerGetAccessToken": {}}]},
        session=f"{SESSION}/pod",
    ),
    "a template of a credentials file": Way(
        [{"template": {"key": "it", "text": FILE + "aws_session_token={{ sessionToken }}"}}],
        {"AWS_SHARED_CREDENTIALS_FILE": "{}/it"},
    ),
    "a template of a script": Way(
        [{"template": {"key": "it", "text": SCRIPT}}], {"FOLDER": "{}"}, before='. "$FOLDER/it"'
    ),
}


def mounted(namespace: Namespace, folder: Path) -> None:
    """Write the Secret as the kubelet does."""
    for key, value in namespace.data("acme").items():
        (folder / key).write_text(value)


def at(folder: Path, what: Any) -> Any:
    """Put the folder into all texts."""
    if isinstance(what, dict):
        return {key: at(folder, value) for key, value in what.items()}
    return what.replace("{}", str(folder)) if isinstance(what, str) else what


@pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in WAYS.items()])
def test_a_client_works_by_nothing_but_the_secret(
    operator: Operator, aws: Emulator, namespace: Namespace, tmp_path: Path, way: Way
) -> None:
    formats = [at(tmp_path, wanted) for wanted in way.formats]
    namespace.issued(aws, target={"formats": formats}, **way.spec)
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "AWS_ENDPOINT_URL": aws.url}
    held = set()
    for revision in (1, 2, 3):
        until(lambda: namespace.status("acme")["revision"] == revision)  # noqa: B023 - it is awaited here
        mounted(namespace, tmp_path)
        command = ["sh", "-euc", f'{way.before}; exec "$0" -c "$1"', sys.executable, WHO_AM_I]
        env = variables | at(tmp_path, way.variables)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout.strip() == (way.session or namespace.status("acme")["principal"])
        held.add(tuple(namespace.data("acme").values()))
        namespace.ask("acme", str(revision))

    assert len(held) == 3
