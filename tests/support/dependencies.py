"""The dependencies of the reconciler in memory: Secrets, AWS, a clock and randomness, all controlled by the test."""

import copy
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.source import ValueRef
from keyturn.api.status import Status
from keyturn.api.token_request import Request, parse
from keyturn.controller.source_reader import read_value
from keyturn.controller.token_secrets import TokenSecrets
from keyturn.core.errors import KeyturnError, ThrottledError
from keyturn.core.issuance import Issuance
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.state import Failure, ReconcileState
from keyturn.core.token_family import StoredToken
from keyturn.exchanges.context import OnRead
from keyturn.exchanges.transmission import Send, Transmission
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Dependencies, PendingTokens, Prepare
from keyturn.reconcile.reconciler import Reconciled, reconcile
from keyturn.reconcile.token_locks import TokenLocks
from tests.support.cluster_secrets import ClusterSecrets, ObservedStore
from tests.support.rotation import Checkpoint, RotatingIssuer, no_checkpoint

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
ROLE = "arn:aws:iam::111122223333:role/LicenseConsumer"
ACCESS_TOKEN: dict[str, Any] = {"licenseManagerGetAccessToken": {}}
ASSUME_ROLE: dict[str, Any] = {"assumeRoleWithWebIdentity": {"roleArn": ROLE}}
REFRESH: dict[str, Any] = {
    "oauthToken": {"tokenUrl": "https://issuer.example/token", "grantType": "refresh_token", "clientId": "acme"}
}
CODE: dict[str, Any] = {
    "identityCenterCreateToken": {
        "clientId": "arn:aws:sso::111122223333:application/ssoins-1/apl-1",
        "grantType": "authorization_code",
        "codeFrom": {"secretKeyRef": {"name": "sign-in", "key": "code"}},
        "redirectUri": "http://127.0.0.1/callback",
    }
}
FLAGSHIP = {
    "source": {"token": {"secretKeyRef": {"name": "license", "key": "license_token"}}},
    "region": "us-east-1",
    "exchanges": [ACCESS_TOKEN, ASSUME_ROLE],
}


def manifest(name: str = "acme", namespace: str = "billing", uid: str = "", **spec: Any) -> dict[str, Any]:
    """The flagship TokenRequest as the API server returns it. `spec` replaces fields; None removes one."""
    fields = {key: value for key, value in (FLAGSHIP | spec).items() if value is not None}
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"{name}-0001", "generation": 1}
    return copy.deepcopy(
        {"apiVersion": "keyturn.dev/v1alpha1", "kind": "TokenRequest", "metadata": metadata, "spec": fields}
    )


def request(name: str = "acme", namespace: str = "billing", uid: str = "", **spec: Any) -> Request:
    """The flagship TokenRequest, parsed."""
    return parse(manifest(name, namespace, uid, **spec))


def signed(issued: datetime | None = None, expires: datetime | None = None, **claims: Any) -> str:
    """A JWT with these times and claims."""
    times = {"iat": issued, "exp": expires}
    claims |= {name: int(moment.timestamp()) for name, moment in times.items() if moment}
    return jwt.encode(claims, "k" * 32, "HS256")


@dataclass(slots=True)
class Issuer:
    """AWS and an issuer. Credentials are valid for `life` and never repeat. A call raises the next of `failures`.

    `busy` are the times after which Keyturn's own limit allows an exchange, `reserved` is the exchange that it allows.
    """

    life: timedelta = HOUR
    failures: list[KeyturnError] = field(default_factory=list)
    busy: dict[str, list[timedelta]] = field(default_factory=dict)
    reserved: str = ""
    calls: list[str] = field(default_factory=list)
    issuer: RotatingIssuer = field(default_factory=RotatingIssuer)

    @contextmanager
    def reserve(self, _: Request, step: StepSpec) -> Iterator[None]:
        """Allow an exchange, or raise ThrottledError."""
        name = type(step.exchange).__name__.removesuffix("Spec")
        if waits := self.busy.get(name):
            raise ThrottledError("busy", retry_after=waits.pop(), nothing_sent=True)
        self.reserved = name
        yield
        self.reserved = ""

    async def exchange(self, step: StepSpec, values: PipelineValues, now: datetime) -> PipelineValues:
        """Return what the step produces, or raise the next failure."""
        if step.oauth_token or step.identity_center_create_token:
            sent = values.refresh_token or values.single_use_credential or values.current_token.value
            response = self.issuer.refresh(sent, now)
            return replace(
                values,
                access_token=response.access_token,
                refresh_token=response.refresh_token,
                refresh_expires_at=response.refresh_expires_at,
                error=response.error,
            )
        token, number = values.current_token, len(self.calls) + 1
        operation = step.assume_role_with_web_identity
        self.calls.append("assumeRoleWithWebIdentity" if operation else "licenseManagerGetAccessToken")
        if self.failures:
            raise self.failures.pop(0)
        request_id, expires = f"request-{number}", now + self.life
        if operation is None:
            return replace(values, access_token=Token(f"access-{number}", expires), request_id=request_id)
        credentials = Credentials(f"ASIA{number}", f"key-for-{token.value}", f"session-{number}", expires)
        return replace(values, credentials=credentials, principal=operation.role_arn, request_id=request_id)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A reconciliation and its metrics: whether a renewal was attempted, and the reason of a successful one."""

    reconciled: Reconciled
    tried: bool
    reason: str

    @property
    def failure(self) -> Failure | None:
        return self.reconciled.state.failure

    @property
    def failure_reason(self) -> str:
        """The reason of the last failure, or ""."""
        return self.failure.error.reason if self.failure else ""

    @property
    def issuance(self) -> Issuance | None:
        return self.reconciled.state.issuance

    @property
    def status(self) -> Status:
        return self.reconciled.status


async def attempt(deps: Dependencies, request: Request, state: ReconcileState, status: Status | None = None) -> Attempt:
    """Reconcile a request, and take from the metrics what it did."""
    before = _renewals(deps.metrics)
    reconciled = await reconcile(deps, request, state, status or Status())
    counted = [labels for labels, number in _renewals(deps.metrics).items() if number != before.get(labels, 0)]
    reasons = [reason for result, reason in counted if result == "success"]
    return Attempt(reconciled, bool(counted), reasons[0] if reasons else "")


def _renewals(metrics: Metrics) -> dict[tuple[str, str], float]:
    (family,) = metrics.renewals.collect()
    samples = [sample for sample in family.samples if sample.name.endswith("_total")]
    return {(sample.labels["result"], sample.labels["reason"]): sample.value for sample in samples}


@dataclass(slots=True)
class FakeEnvironment:
    """The environment of the reconciler. A test changes `now`, `rand`, the Secrets and what AWS returns."""

    now: datetime = NOW
    rand: float = 0.0
    aws: Issuer = field(default_factory=Issuer)
    states: dict[str, ReconcileState] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    store: ObservedStore = field(default_factory=ObservedStore)
    tokens: ObservedStore = field(default_factory=ObservedStore)
    checkpoint: Checkpoint = no_checkpoint
    jumps: timedelta = timedelta()
    secrets: ClusterSecrets = field(init=False)
    token_locks: TokenLocks = field(init=False)
    pending_tokens: PendingTokens = field(init=False)

    def __post_init__(self) -> None:
        self.secrets = ClusterSecrets(self.monotonic)
        self.tokens.store = TokenSecrets(self.secrets.server)
        self.restart()

    def watch(self, checkpoint: Checkpoint) -> None:
        """Await `checkpoint` at each call to a store, an exchange or `sleep`."""
        self.checkpoint = self.tokens.checkpoint = self.store.checkpoint = checkpoint

    def monotonic(self) -> float:
        """The monotonic clock, which `set_clock` does not change."""
        return (self.now - NOW - self.jumps).total_seconds()

    def set_clock(self, jump: timedelta) -> None:
        """Move the clock, as an administrator does: no time passes."""
        self.now += jump
        self.jumps += jump

    @property
    def deps(self) -> Dependencies:
        """What `reconcile` receives."""
        store: Any = self.store
        tokens: Any = self.tokens
        return Dependencies(
            store=store,
            tokens=tokens,
            read_value=self._read_value,
            prepare=self._prepare,
            reserve=self.aws.reserve,
            pending_tokens=self.pending_tokens,
            now=lambda: self.now,
            rand=lambda: self.rand,
            token_locks=self.token_locks,
            metrics=self.metrics,
            sleep=self._sleep,
        )

    @property
    def exchanges(self) -> int:
        """How many calls AWS has received."""
        return len(self.aws.calls)

    async def reconcile(self, request: Request, after: timedelta = timedelta()) -> Attempt:
        """Reconcile a request, `after` later, with the state and status of its last reconciliation."""
        self.now += after
        self.secrets.create_request(request)
        state, status = self.states.get(request.uid, ReconcileState()), self.statuses.get(request.uid)
        done = await attempt(self.deps, request, state, status)
        self.states[request.uid], self.statuses[request.uid] = done.reconciled.state, done.status
        return done

    def restart(self) -> None:
        """Drop what a process keeps only in memory."""
        self.states.clear()
        self.secrets.restart()
        self.store.store = self.secrets.store
        self.token_locks = TokenLocks(self.monotonic)
        self.pending_tokens = PendingTokens(self.monotonic)

    def issuance(self, name: str = "acme") -> Issuance:
        return self.secrets.issuance(name)

    def stored_token(self, name: str = "license-keyturn") -> StoredToken:
        """Return the token in a token Secret. Raises KeyError if the Secret does not exist."""
        return self.secrets.stored_token(name)

    async def _read_value(self, namespace: str, ref: ValueRef) -> str:
        return await read_value(self.secrets.server, namespace, ref)

    async def _prepare(
        self, request: Request, step: StepSpec, values: PipelineValues, *, on_read: OnRead = lambda _ref, _value: None
    ) -> Send:
        name = type(step.exchange).__name__.removesuffix("Spec")
        await self.checkpoint(f"prepare {name}")
        for ref in request.spec.exchange_references if step.oauth_token else ():
            on_read(ref, await self._read_value(request.namespace, ref))

        async def send(transmission: Transmission) -> PipelineValues:
            await self.checkpoint(f"before {name}")
            transmission.begin()
            result = await self.aws.exchange(step, values, self.now)
            await self.checkpoint(f"after {name}")
            return result

        return send

    async def _sleep(self, _: float) -> None:
        await self.checkpoint("sleep")


Exchange = Callable[[Request, StepSpec, PipelineValues], Awaitable[PipelineValues]]


def unprepared(exchange: Exchange) -> Prepare:
    """Return the `prepare` of an exchange that has nothing to prepare."""

    async def prepare(request: Request, step: StepSpec, values: PipelineValues, **_: object) -> Send:
        return lambda _: exchange(request, step, values)

    return prepare


def environment(source: str = "refresh-token") -> FakeEnvironment:
    """An environment with the source Secret of the flagship."""
    env = FakeEnvironment()
    env.secrets.put("license", data={"license_token": source})
    return env


def rotating(name: str = "acme", **spec: Any) -> Request:
    """A request whose source token is rotated with each use."""
    return request(name, exchanges=[REFRESH, ASSUME_ROLE], **spec)


def single_use(name: str = "acme", **spec: Any) -> Request:
    """A request whose source is an authorization code."""
    source = {"credentials": {"secretRef": {"name": "base"}}}
    return request(name, source=source, exchanges=[CODE, ASSUME_ROLE], **spec)


def with_code(code: str = "seed") -> FakeEnvironment:
    """An environment with the source Secrets of `single_use`."""
    env = environment()
    env.secrets.put("base", data={"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "key"})
    env.secrets.put("sign-in", data={"code": code})
    return env


async def issued() -> FakeEnvironment:
    """An environment after the first issuance, with all counters at zero."""
    env = environment()
    await env.reconcile(request())
    env.aws.calls.clear()
    env.store.calls.clear()
    return env
