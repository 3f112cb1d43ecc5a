"""The rules between the parts of a spec, each told once: in CEL for the API server, as a test for Python."""

from typing import Any, get_args

from keyturn.api.base import Kind, Rule
from keyturn.api.cel import PRODUCERS, STEPS, before, produces, step, when
from keyturn.api.consumption_rules import CONSUMPTION_RULES
from keyturn.api.exchanges.base import PROOFS, AwsExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES, REFERENCES
from keyturn.api.format_rules import FORMAT_RULES, WRITTEN
from keyturn.api.target import is_duration

CHAINED_SECONDS = 3600
AMBIENT_TAGS = ("kubernetes-namespace", "kubernetes-name")
_AMBIENT_TAGS_LEFT = 50 - len(AMBIENT_TAGS)
_KINDS: tuple[Kind, ...] = get_args(Kind)


_IN_AWS = [name for name, o in EXCHANGES.items() if issubclass(o, AwsExchangeSpec)]
_NEED = {kind: [name for name, o in EXCHANGES.items() if kind in o.REQUIRES] for kind in _KINDS}
_GIVE_ID_TOKEN = [name for name, o in EXCHANGES.items() if o.PRODUCES_ID_TOKEN]
_READ_FROM = [name for name, o in EXCHANGES.items() if "from_" in o.__struct_fields__]
_LOG_IN = [name for name, o in EXCHANGES.items() if "logins" in o.__struct_fields__]
_ID_TOKENS = {
    **{name: [f"(has({step(name)}.from) && {step(name)}.from == 'idToken')"] for name in _READ_FROM},
    **{name: [f"{step(name)}.logins.exists(p, {step(name)}.logins[p] == 'idToken')"] for name in _LOG_IN},
}
_TIMED = {name: o.DEFAULT_SECONDS for name, o in EXCHANGES.items() if o.DEFAULT_SECONDS}
_ROLES = [name for name, o in EXCHANGES.items() if o.IS_ROLE]
_USER_ONLY = [name for name, o in EXCHANGES.items() if o.FOR_USERS_ONLY]


def _needing(kind: Kind) -> str:
    conditions = {name: EXCHANGES[name].REQUIRES_IF.get(kind, "").format(step(name)) for name in _NEED[kind]}
    always = f"x in {[name for name, condition in conditions.items() if not condition]}"
    sometimes = {name: [condition] for name, condition in conditions.items() if condition}
    return f"({always} || {when(sometimes)})" if sometimes else f"({always})"


def _has_regions(spec: Any) -> bool:
    steps = [e.exchange for e in spec.exchanges if isinstance(e.exchange, AwsExchangeSpec)]
    return bool(spec.region) or all(step.region for step in steps)


def _needs_are_met(spec: Any, kind: Kind) -> bool:
    first = spec.source.token if kind == "token" else spec.source.credentials
    return all(
        kind not in exchange.exchange.needs or first or produces(spec.exchanges[:index], kind)
        for index, exchange in enumerate(spec.exchanges)
    )


def _user_operations_come_first(spec: Any) -> bool:
    return not any(
        exchange.exchange.FOR_USERS_ONLY and produces(spec.exchanges[:index], "credentials")
        for index, exchange in enumerate(spec.exchanges)
    )


def _chained_roles_are_short(spec: Any) -> bool:
    after_role = False
    for exchange in spec.exchanges:
        if after_role and exchange.assume_role and (exchange.assume_role.duration_seconds or 0) > CHAINED_SECONDS:
            return False
        after_role = after_role or exchange.exchange.IS_ROLE
    return True


def _guests_assume_no_role(spec: Any) -> bool:
    guests = [index for index, exchange in enumerate(spec.exchanges) if exchange.get_federation_token]
    return not guests or all(exchange.assume_role is None for exchange in spec.exchanges[guests[0] :])


def _id_tokens_are_given(spec: Any) -> bool:
    given = False
    for exchange in spec.exchanges:
        wanted = exchange.exchange
        read = (getattr(wanted, "from_", None), *(getattr(wanted, "logins", None) or {}).values())
        if "idToken" in read and not given:
            return False
        given = given or exchange.exchange.PRODUCES_ID_TOKEN
    return True


def _renews_within_duration(spec: Any) -> bool:
    if not (spec.renewal and spec.renewal.before):
        return True
    last = spec.exchanges[-1].exchange
    # 0 is CodeArtifact's word for a lifetime that nobody knows yet.
    if not last.DEFAULT_SECONDS or last.duration_seconds == 0:
        return True
    seconds: int = last.duration_seconds or last.DEFAULT_SECONDS
    return bool(spec.renewal.before.total_seconds() < seconds)


def _ambient_assumes_a_role(spec: Any) -> bool:
    first = spec.exchanges[0].assume_role
    return not spec.source.is_ambient or bool(first and first.role_session_name is None)


def _ambient_is_tagged_by_us(spec: Any) -> bool:
    tags = spec.exchanges[0].assume_role and spec.exchanges[0].assume_role.tags
    ours = any(tag.key.lower() in AMBIENT_TAGS for tag in tags or ())
    return not spec.source.is_ambient or not (ours or len(tags or ()) > _AMBIENT_TAGS_LEFT)


def _needs_rule(kind: Kind, first: str) -> Rule:
    return Rule(
        message=f"{kind} missing: give source.{first}, or put an exchange that gives {kind} before what needs it",
        cel=f"has(self.source.{first}) || steps.all(i, x, !{_needing(kind)} || {before(PRODUCERS[kind])})",
        is_met_by=lambda spec: _needs_are_met(spec, kind),
    )


_REGIONS = when({name: [f"has({step(name)}.region)"] for name in _IN_AWS})
_DURATIONS = " && ".join(
    f"(x != '{name}' || {step(name)}.?durationSeconds.orValue({seconds}) == 0 || "
    f"duration(self.renewal.renewBefore).getSeconds() < {step(name)}.?durationSeconds.orValue({seconds}))"
    for name, seconds in _TIMED.items()
)

_NOT_AMBIENT = "!has(self.source.credentials) || !has(self.source.credentials.ambient) || "
_FIRST = "self.exchanges[0].assumeRole"

SHARED = {"steps": STEPS, "formats": WRITTEN}
SPEC_RULES = (
    Rule(
        message="ambient credentials are for assumeRole alone, as the first exchange and without roleSessionName",
        cel=f"{_NOT_AMBIENT}(has({_FIRST}) && !has({_FIRST}.roleSessionName))",
        is_met_by=_ambient_assumes_a_role,
    ),
    Rule(
        message=f"with ambient credentials the tags {' and '.join(AMBIENT_TAGS)} are Keyturn's, and 48 are left",
        cel=f"{_NOT_AMBIENT}!has({_FIRST}) || !has({_FIRST}.tags) || ({_FIRST}.tags.size() <= {_AMBIENT_TAGS_LEFT}"
        f" && {_FIRST}.tags.all(t, !(t.key.lowerAscii() in {list(AMBIENT_TAGS)})))",
        is_met_by=_ambient_is_tagged_by_us,
    ),
    Rule(
        message="region is missing: give spec.region, or a region to each exchange with AWS",
        cel=f"has(self.region) || steps.all(i, x, {_REGIONS} || !(x in {_IN_AWS}))",
        is_met_by=_has_regions,
    ),
    _needs_rule("token", "token"),
    _needs_rule("credentials", "credentials"),
    *FORMAT_RULES,
    Rule(
        message=f"{' and '.join(_USER_ONLY)} take the keys of an IAM user: no exchange before may give credentials",
        cel=f"steps.all(i, x, !(x in {_USER_ONLY}) || !{before(PRODUCERS['credentials'])})",
        is_met_by=_user_operations_come_first,
    ),
    Rule(
        message="assumeRole after another role lasts at most 3600 s: lower its durationSeconds",
        cel=f"steps.all(i, x, x != 'assumeRole' || {step('assumeRole')}.?durationSeconds.orValue(0) <= "
        f"{CHAINED_SECONDS} || !{before(_ROLES)})",
        is_met_by=_chained_roles_are_short,
    ),
    Rule(
        message="assumeRole cannot follow getFederationToken: STS lets a federated user assume no role",
        cel=f"steps.all(i, x, x != 'assumeRole' || !{before(['getFederationToken'])})",
        is_met_by=_guests_assume_no_role,
    ),
    *CONSUMPTION_RULES,
    Rule(
        message=f"an idToken needs an exchange before that may give one: {' or '.join(_GIVE_ID_TOKEN)}",
        cel=f"steps.all(i, x, !{when(_ID_TOKENS)} || {before(_GIVE_ID_TOKEN)})",
        is_met_by=_id_tokens_are_given,
    ),
    Rule(
        message="renewal.renewBefore must be shorter than the durationSeconds of the last exchange (or its default)",
        cel="!has(self.renewal) || !has(self.renewal.renewBefore) || "
        f"!({is_duration('self.renewal.renewBefore')}) || "
        f"steps.all(i, x, i + 1 < steps.size() || ({_DURATIONS}))",
        is_met_by=_renews_within_duration,
    ),
)

# Each name is compared where it is there: in CEL's estimate of costs, orValue('') has no limit.
_TARGET = "self.spec.?target.?secretName.orValue(self.metadata.name)"
_TOKEN = "self.spec.source.token"  # noqa: S105 - it is CEL
_CREDENTIALS = "self.spec.source.credentials"
_OF_SOURCE = (
    f"(!has({_TOKEN}) || !has({_TOKEN}.secretKeyRef) || "
    f"({_TOKEN}.secretKeyRef.name != {_TARGET} && (has({_TOKEN}.saveTo)"
    f" ? {_TOKEN}.saveTo.secretName != {_TARGET} : {_TOKEN}.secretKeyRef.name + '-keyturn' != {_TARGET})))"
    f" && (!has({_CREDENTIALS}) || !has({_CREDENTIALS}.secretRef) || {_CREDENTIALS}.secretRef.name != {_TARGET})"
)


def _is_not_read(step: str, field: str) -> str:
    ref = f"x.{step}.{field}.secretKeyRef"
    kept = f" && {ref}.name + '-keyturn' != {_TARGET}" if field in PROOFS else ""
    # A CA bundle may be in a ConfigMap.
    there = f"!has(x.{step}.{field}) || !has({ref})" if field == "caBundleFrom" else f"!has(x.{step}.{field})"
    return f"({there} || ({ref}.name != {_TARGET}{kept}))"


def _reads_no_target(step: str) -> str:
    """All fields of a step at once: each has(x.STEP) costs the API server as much as x may have members."""
    return f"(!has(x.{step}) || ({' && '.join(_is_not_read(step, field) for field in _FIELDS[step])}))"


_FIELDS = {step: [field for of, field in REFERENCES if of == step] for step, _ in REFERENCES}
_OF_STEPS = " && ".join(map(_reads_no_target, _FIELDS))

TARGET_RULE = Rule(
    message="the target must not be a Secret that the spec reads or keeps a token in",
    cel=f"{_OF_SOURCE} && self.spec.exchanges.all(x, {_OF_STEPS})",
    is_met_by=lambda it: it.secret_name not in it.spec.secrets_read,
)
