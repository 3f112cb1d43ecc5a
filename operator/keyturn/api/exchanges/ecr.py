"""Amazon ECR."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Kind, Rule, matching
from keyturn.api.exchanges.base import AwsExchangeSpec


class EcrGetAuthorizationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges credentials for a container registry login, valid for 12 hours (ECR GetAuthorizationToken).

    The caller needs ecr:GetAuthorizationToken, or ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken for
    the public registry. If the pipeline contains several such exchanges, for example for several regions, the Secret
    contains the logins of all of them.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("registryLogins",)

    registry_ids: (
        Annotated[
            tuple[Annotated[str, matching(r"^[0-9]{12}\Z", "12 digits", min_length=12, max_length=12)], ...],
            Meta(
                min_length=1,
                max_length=10,
                description="AWS accounts of the registries, such as 111122223333 (in quotes). Default:"
                " the caller's account.",
            ),
        ]
        | None
    ) = None
    hosts: (
        Annotated[
            tuple[
                Annotated[
                    str,
                    matching(
                        r"^[A-Za-z0-9*._:/\[\]-]+\Z",
                        "a registry host as in image names, such as 111122223333.dkr-ecr.eu-west-1.on.aws",
                        min_length=1,
                        max_length=255,
                    ),
                ],
                ...,
            ],
            Meta(
                min_length=1,
                max_length=16,
                description="Additional hosts to write the login for, such as dual-stack and FIPS endpoints,"
                " ecr-public.aws.com, or the registry of another account in the same region. With several registryIds,"
                " the login of the first registry is written for them.",
            ),
        ]
        | None
    ) = None
    public: (
        Annotated[
            bool,
            Meta(description="Whether to log in to the public registry public.ecr.aws, in us-east-1. Default: false."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="registryIds cannot be combined with public: true",
            cel="!has(self.registryIds) || !has(self.public) || !self.public",
            is_met_by=lambda spec: spec.registry_ids is None or not spec.public,
        ),
    )
