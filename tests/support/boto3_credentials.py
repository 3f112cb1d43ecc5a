"""What boto3 would sign a call with."""

import boto3


def current_credentials(session: boto3.Session) -> tuple[str | None, ...]:
    """Return access key ID, secret access key and session token, refreshed if boto3 finds them due."""
    credentials = session.get_credentials()
    assert credentials
    frozen = credentials.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token
