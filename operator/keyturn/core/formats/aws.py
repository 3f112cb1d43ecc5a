"""The files of AWS SDKs."""

import json

from keyturn.api.formats.aws import MOUNTED_AT, AwsConfigFormat, CredentialsFileFormat
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.formats.values import credentials
from keyturn.core.pipeline_values import PipelineValues


def env(request: Request, values: PipelineValues) -> dict[str, str]:
    """Variables; what there is not has no key."""
    held, region = credentials(values), request.spec.region
    return {
        "AWS_ACCESS_KEY_ID": held.access_key_id,
        "AWS_SECRET_ACCESS_KEY": held.secret_access_key,
        **({"AWS_SESSION_TOKEN": held.session_token} if held.session_token else {}),
        **({"AWS_REGION": region} if region else {}),
    }


def credential_process(_: object, __: Request, values: PipelineValues) -> str:
    """What a `credential_process` prints, version 1."""
    held = credentials(values)
    fields = {
        "Version": 1,
        "AccessKeyId": held.access_key_id,
        "SecretAccessKey": held.secret_access_key,
        **({"SessionToken": held.session_token} if held.session_token else {}),
        **({"Expiration": rfc3339(held.expires_at)} if held.expires_at else {}),
    }
    return json.dumps(fields)


def credentials_file(options: CredentialsFileFormat, _: Request, values: PipelineValues) -> str:
    """A shared credentials file with one profile."""
    held = credentials(values)
    lines = [
        f"[{options.profile or 'default'}]",
        f"aws_access_key_id = {held.access_key_id}",
        f"aws_secret_access_key = {held.secret_access_key}",
        *([f"aws_session_token = {held.session_token}"] if held.session_token else []),
    ]
    return "\n".join(lines) + "\n"


def aws_config(options: AwsConfigFormat, request: Request, _: PipelineValues) -> str:
    """A shared config file whose default profile reads the first credentialProcess format of the same Secret."""
    (file, *_more) = [
        key for wanted in request.spec.formats if wanted.credential_process for key in wanted.options.keys
    ]
    folder = options.mount_path or f"{MOUNTED_AT}/{request.secret_name}"
    region = f"region = {request.spec.region}\n" if request.spec.region else ""
    return f"[default]\n{region}credential_process = cat {folder}/{file}\n"
