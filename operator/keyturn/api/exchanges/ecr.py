"""Amazon ECR."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Kind, Rule
from keyturn.api.exchanges.base import AwsExchangeSpec


class EcrGetAuthorizationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """ecr or ecr-public GetAuthorizationToken: credentials for the password of a container registry, for 12 hours.

    The caller needs ecr:GetAuthorizationToken; of a public registry ecr-public:GetAuthorizationToken and
    sts:GetServiceBearerToken. Several of these steps, in several regions, add up.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("registryLogins",)

    registry_ids: (
        Annotated[
            tuple[Annotated[str, Meta(min_length=12, max_length=12, pattern=r"^[0-9]{12}\Z")], ...],
            Meta(
                min_length=1,
                max_length=10,
                description="Accounts whose registries are wanted. Default: the caller's own.",
            ),
        ]
        | None
    ) = None
    public: (
        Annotated[
            bool,
            Meta(description="The public registry public.ecr.aws, always in us-east-1. Default: false."),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="registryIds are of private registries: give them, or public: true",
            cel="!has(self.registryIds) || !has(self.public) || !self.public",
            is_met_by=lambda it: it.registry_ids is None or not it.public,
        ),
    )
