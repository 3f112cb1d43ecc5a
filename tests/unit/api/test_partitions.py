"""The API names no partitions and regions: it accepts those of the AWS SDK in use, and those of later ones."""

from typing import Any

import botocore.session
import pytest

from keyturn.core.proxies import NO_PROXIES
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws_clients import AwsClients, session_without_chain
from tests.support.dependencies import request
from tests.support.manifests.parts import assume, with_user_keys

_DATA = botocore.session.get_session().get_component("data_loader").load_data("partitions")["partitions"]
# Partition, region and DNS suffix. The last partition does not exist.
PARTITIONS = [
    *((one["id"], region, one["outputs"]["dnsSuffix"]) for one in _DATA for region in one["regions"]),
    ("aws-new", "xx-new-east-1", ""),
]
LICENSE = "license-manager::111122223333:license:l-0123456789abcdef"


@pytest.mark.parametrize("partition", sorted({partition for partition, *_ in PARTITIONS}))
def test_arn_of_any_partition_is_accepted(partition: str) -> None:
    arn = f"arn:{partition}"
    policies = [{"arn": f"{arn}:iam::aws:policy/ReadOnlyAccess"}, {"arn": f"{arn}:iam::111122223333:policy/a"}]
    role: dict[str, Any] = {"roleArn": f"{arn}:iam::111122223333:role/a/b", "policyArns": policies}
    license_token = {"licenseArn": f"{arn}:{LICENSE}", "roleArns": [role["roleArn"]]}
    application = {"clientId": f"{arn}:sso::111122223333:application/ssoins-1/apl-1", "grantType": "refresh_token"}
    token = {"secretKeyRef": {"name": "login", "key": "token"}}

    request(**with_user_keys(assume(**role), {"licenseManagerCreateToken": license_token}))
    request(
        **with_user_keys(
            {"identityCenterCreateToken": application},
            source={"credentials": {"secretRef": {"name": "base"}}, "token": token},
        )
    )


@pytest.mark.parametrize("region", [region for _, region, _ in PARTITIONS])
def test_region_of_any_partition_is_accepted(region: str) -> None:
    assert request(region=region).spec.region == region


@pytest.mark.parametrize("region", ["mx-central-1", "eusc-de-east-1", "us-isob-east-1", "cn-north-1", "us-gov-west-1"])
def test_endpoint_is_that_of_the_partition(region: str) -> None:
    clients = AwsClients(AwsSettings(), 1, lambda: session_without_chain(NO_PROXIES))
    suffix = next(suffix for _, name, suffix in PARTITIONS if name == region)

    assert clients.get("sts", region, 1).meta.endpoint_url == f"https://sts.{region}.{suffix}"
