"""Amazon ECR."""

from typing import Annotated, ClassVar

from msgspec import Meta

from keyturn.api.base import Kind, Rule, matching
from keyturn.api.exchanges.base import AwsExchangeSpec


class EcrGetAuthorizationTokenSpec(AwsExchangeSpec, frozen=True, kw_only=True):
    """Exchanges credentials for a container registry login, valid for 12 hours (ECR GetAuthorizationToken).

    The caller needs ecr:GetAuthorizationToken, or ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken for
    the public registry. Several such exchanges, for example in several regions, add their logins.
    """

    REQUIRES: ClassVar[tuple[Kind, ...]] = ("credentials",)
    PRODUCES: ClassVar[tuple[Kind, ...]] = ("registryLogins",)

    registry_ids: (
        Annotated[
            tuple[Annotated[str, matching(r"^[0-9]{12}\Z", "12 digits", min_length=12, max_length=12)], ...],
            Meta(
                min_length=1,
                max_length=10,
                description="AWS accounts of the registries. Default: the caller's account.",
            ),
        ]
        | None
    ) = None
    public: (
        Annotated[
            bool,
            Meta(description="Log in to the public registry public.ecr.aws, in us-east-1. Default: false."),
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
