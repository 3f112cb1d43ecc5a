"""Rules of STS about chains of sessions."""

from keyturn.api.base import Rule
from keyturn.api.exchanges.sts import AssumeRoleSpec, GetFederationTokenSpec
from keyturn.api.rules.names import PRODUCE, ROLES, USERS_ONLY, earlier, has_producer, pipeline

# The longest session of a role that is assumed with the credentials of another role.
CHAINED_SECONDS = 3600

ROLE_RULES = (
    Rule(
        message=f"{' and '.join(USERS_ONLY)} require the access keys of an IAM user: no earlier exchange may produce"
        " credentials",
        cel=f"steps.all(i, x, !(x in {USERS_ONLY}) || !{earlier(PRODUCE['credentials'])})",
        is_met_by=lambda spec: (
            not any(
                exchange.FOR_USERS_ONLY and has_producer(before, "credentials") for exchange, before in pipeline(spec)
            )
        ),
    ),
    Rule(
        message=f"assumeRole after another role (role chaining) is limited to {CHAINED_SECONDS} seconds: lower"
        " durationSeconds",
        cel=f"""
            steps.all(i, x,
                x != 'assumeRole' ||
                self.exchanges[i].assumeRole.?durationSeconds.orValue(0) <= {CHAINED_SECONDS} ||
                !{earlier(ROLES)})
        """,
        is_met_by=lambda spec: (
            not any(
                isinstance(exchange, AssumeRoleSpec)
                and (exchange.duration_seconds or 0) > CHAINED_SECONDS
                and any(role.IS_ROLE for role in before)
                for exchange, before in pipeline(spec)
            )
        ),
    ),
    Rule(
        message="assumeRole cannot follow getFederationToken: STS does not let federated users assume roles",
        cel=f"steps.all(i, x, x != 'assumeRole' || !{earlier(['getFederationToken'])})",
        is_met_by=lambda spec: (
            not any(
                isinstance(exchange, AssumeRoleSpec)
                and any(isinstance(user, GetFederationTokenSpec) for user in before)
                for exchange, before in pipeline(spec)
            )
        ),
    ),
)
