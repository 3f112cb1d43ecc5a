"""The files and variables that AWS SDKs read."""

import json

from keyturn.api.formats.aws import MOUNTED_AT, AwsConfigFormat, CredentialProcessFormat, CredentialsFileFormat
from keyturn.api.formats.base import REGION_KEYS
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.formats.context import FormatContext, require_credentials
from keyturn.core.pipeline_values import PipelineValues


def env(request: Request, values: PipelineValues) -> dict[str, str]:
    """Environment variables by name. A variable without a value is left out."""
    credentials, region = require_credentials(values), request.spec.region
    return {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        **({"AWS_SESSION_TOKEN": credentials.session_token} if credentials.session_token else {}),
        **(dict.fromkeys(REGION_KEYS, region) if region else {}),
    }


def credential_process(context: FormatContext[CredentialProcessFormat]) -> str:
    """The JSON document, version 1, that a `credential_process` prints."""
    credentials = require_credentials(context.values)
    fields = {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        **({"SessionToken": credentials.session_token} if credentials.session_token else {}),
        **({"Expiration": rfc3339(credentials.expires_at)} if credentials.expires_at else {}),
    }
    return json.dumps(fields)


def credentials_file(context: FormatContext[CredentialsFileFormat]) -> str:
    """A shared credentials file with one profile."""
    credentials = require_credentials(context.values)
    lines = [
        f"[{context.options.profile or 'default'}]",
        f"aws_access_key_id = {credentials.access_key_id}",
        f"aws_secret_access_key = {credentials.secret_access_key}",
        *([f"aws_session_token = {credentials.session_token}"] if credentials.session_token else []),
    ]
    return "\n".join(lines) + "\n"


def aws_config(context: FormatContext[AwsConfigFormat]) -> str:
    """A shared config file whose default profile reads the first credentialProcess format of the same Secret."""
    request = context.request
    (key, *_) = [
        key for format_spec in request.spec.formats if format_spec.credential_process
        for key in format_spec.options.keys
    ]  # fmt: skip
    directory = context.options.mount_path or f"{MOUNTED_AT}/{request.secret_name}"
    region = f"region = {request.spec.region}\n" if request.spec.region else ""
    return f"[default]\n{region}credential_process = cat {directory}/{key}\n"
