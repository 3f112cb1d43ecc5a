"""Formats that test_sdks.py does not use: an SDK works with the Secret alone, also after two renewals."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.namespace import ROLE, Namespace
from tests.support.emulator.client import Emulator

pytestmark = pytest.mark.usefixtures("operator")
WHO_AM_I = "import boto3; print(boto3.client('sts', 'us-east-1').get_caller_identity()['Arn'])"
SESSION = ROLE.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
SCRIPT = """\
export AWS_ACCESS_KEY_ID={{ accessKeyId }} AWS_SECRET_ACCESS_KEY='{{ secretAccessKey }}'
export AWS_SESSION_TOKEN="{{ sessionToken }}" ENDS="{{ expiration }}"  # {{ principal }}
"""


@dataclass(frozen=True)
class FormatCase:
    """Formats and the variables that point an SDK to them; {} is replaced by the mount path."""

    formats: list[dict[str, Any]]
    variables: dict[str, str]
    spec: dict[str, Any] = field(default_factory=dict)
    prepare: str = "true"
    principal: str = ""


CASES = {
    "env": FormatCase(
        [{"env": {}}],
        {"FOLDER": "{}"},
        prepare='for file in "$FOLDER"/AWS_*; do export "$(basename "$file")=$(cat "$file")"; done',
    ),
    "credentialsFile": FormatCase(
        [{"credentialsFile": {"key": "aws", "profile": "billing"}}],
        {"AWS_SHARED_CREDENTIALS_FILE": "{}/aws", "AWS_PROFILE": "billing"},
    ),
    "webIdentityToken": FormatCase(
        [{"webIdentityToken": {}}],
        {
            "AWS_WEB_IDENTITY_TOKEN_FILE": "{}/web_identity_token",
            "AWS_ROLE_ARN": ROLE,
            "AWS_ROLE_SESSION_NAME": "pod",
        },
        spec={"exchanges": [{"licenseManagerGetAccessToken": {}}]},
        principal=f"{SESSION}/pod",
    ),
    "template": FormatCase([{"template": {"key": "it", "text": SCRIPT}}], {"FOLDER": "{}"}, prepare='. "$FOLDER/it"'),
}


def mount(namespace: Namespace, folder: Path) -> None:
    """Write the Secret to a folder, as the kubelet does."""
    for key, value in namespace.secret_data("acme").items():
        (folder / key).write_text(value)


def with_folder(folder: Path, value: Any) -> Any:
    """Insert the mount path into all strings."""
    if isinstance(value, dict):
        return {key: with_folder(folder, child) for key, child in value.items()}
    return value.replace("{}", str(folder)) if isinstance(value, str) else value


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_client_works_with_the_secret_alone(
    aws: Emulator, namespace: Namespace, tmp_path: Path, case: FormatCase
) -> None:
    formats = [with_folder(tmp_path, options) for options in case.formats]
    namespace.issue(aws, target={"formats": formats}, **case.spec)
    variables = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "AWS_ENDPOINT_URL": aws.url}
    seen = set()
    for revision in (1, 2, 3):
        namespace.wait_for_revision(revision)
        mount(namespace, tmp_path)
        command = ["sh", "-euc", f'{case.prepare}; exec "$0" -c "$1"', sys.executable, WHO_AM_I]
        env = variables | with_folder(tmp_path, case.variables)
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
        assert run.stdout.strip() == (case.principal or namespace.status("acme")["principal"])
        seen.add(tuple(namespace.secret_data("acme").values()))
        namespace.request_renewal("acme", str(revision))

    assert len(seen) == 3
