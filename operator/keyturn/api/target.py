"""The target Secret, and when to renew it."""

from collections import Counter
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from keyturn.api.base import ApiStruct, Name, Rule
from keyturn.api.formats.registry import FormatSpec, key_in_cel
from keyturn.api.metadata import SecretMetadata
from keyturn.api.times import duration, duration_text, is_duration


class TargetSpec(ApiStruct, frozen=True):
    """The target Secret."""

    secret_name: (
        Annotated[Name, Meta(description="Name of the Secret. Default: the name of the TokenRequest.")] | None
    ) = None
    formats: (
        Annotated[
            tuple[FormatSpec, ...],
            Meta(
                min_length=1,
                max_length=8,
                description="Formats to write. Default: env and credentialProcess if the last exchange produces"
                " credentials, dockerConfigJson for registry logins, token for a token.",
            ),
        ]
        | None
    ) = None
    metadata: SecretMetadata | None = None
    deletion_policy: (
        Annotated[
            Literal["Delete", "Retain"],
            Meta(
                description="Whether Keyturn deletes the Secret with the TokenRequest, or retains it. Default: Delete."
            ),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="two formats write the same key: set a different `key` on one of them",
            cel=f"""
                !has(self.formats) || [self.formats.map(f, {key_in_cel("f")})].all(keys,
                    keys.all(k, keys.exists_one(other, other == k)))
            """,
            is_met_by=lambda target: (
                max(Counter(key for f in target.formats or () for key in f.options.keys).values(), default=1) == 1
            ),
        ),
        Rule(
            message="format awsConfig requires a credentialProcess format",
            cel="""
                !has(self.formats) || !self.formats.exists(f, has(f.awsConfig)) ||
                self.formats.exists(f, has(f.credentialProcess))
            """,
            is_met_by=lambda target: (
                not any(f.aws_config for f in target.formats or ()) or any(f.credential_process for f in target.formats)
            ),
        ),
    )


class RenewalSpec(ApiStruct, frozen=True):
    """How long before expiry to renew: at most 95% of the actual lifetime, so that renewals cannot loop."""

    renew_before: (
        Annotated[
            str,
            duration_text(
                "Time between the renewal and the expiry of the credentials, such as 20m or 1h30m. Limited"
                " to 95% of the actual lifetime. If it is not shorter than the actual lifetime, half of the lifetime"
                " is used."
            ),
        ]
        | None
    ) = None
    renew_before_percentage: (
        Annotated[
            Annotated[int, Meta(ge=1, le=99)],
            Meta(
                description="Time between the renewal and the expiry of the credentials, as a percentage of the"
                " lifetime, such as 50. Limited to 95."
            ),
        ]
        | None
    ) = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="renewBefore and renewBeforePercentage are mutually exclusive",
            cel="!has(self.renewBefore) || !has(self.renewBeforePercentage)",
            is_met_by=lambda renewal: renewal.renew_before is None or renewal.renew_before_percentage is None,
        ),
        Rule(
            message="renewBefore must be at least 1s",
            cel=f"""
                !has(self.renewBefore) || !({is_duration("self.renewBefore")}) ||
                duration(self.renewBefore) >= duration('1s')
            """,
            is_met_by=lambda renewal: renewal.before is None or renewal.before.total_seconds() >= 1,
        ),
    )

    @property
    def before(self) -> timedelta | None:
        """`renewBefore` as a timedelta."""
        return None if self.renew_before is None else duration(self.renew_before)
