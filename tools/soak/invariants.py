"""The invariants, which are checked once a second."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

import aiohttp

from tests.support.cluster.operator import Operator
from tests.support.processes import sample
from tools.bench.environment import is_ready
from tools.soak.growth import Growth  # noqa: TC001 - one style of imports
from tools.soak.journal import Journal, now
from tools.soak.scenario import Scenario, Source

# How long Ready may stay True after the expiry while an operator leads and the API server accepts writes: as long as an
# attempt in which both exchanges hang.
TOLERANCE_SECONDS = 60
_RECOVERY_SECONDS = 360  # more than the longest backoff
_TIMEOUT = aiohttp.ClientTimeout(total=2)


class Invariants:
    """The checks and their results."""

    def __init__(self, scenario: Scenario, journal: Journal, http: aiohttp.ClientSession) -> None:
        self._scenario, self._journal, self._http = scenario, journal, http
        self._calm_since = float("inf")
        self._lost: set[tuple[str, str]] = set()
        self.growth: Growth | None = None
        self.longest_stale, self.sign_ins = 0.0, 0
        self.requests: list[dict[str, Any]] = []

    async def check_until_cancelled(self) -> None:
        while True:
            leader, self.requests = await self._leader(), []
            with suppress(aiohttp.ClientError, TimeoutError):
                async with asyncio.timeout(5):
                    self.requests = await self._scenario.env.client.requests()
            is_calm = (
                leader and self.requests and all(it.end <= now() for it in self._journal.faults if it.stops_writes)
            )
            self._calm_since = min(self._calm_since, now()) if is_calm else float("inf")
            for request in filter(is_ready, self.requests):
                self._check_expiry(request)
            calls = [call for call in self._scenario.aws.recent_calls() if call["operation"] == "oauth:token"]
            for source in self._scenario.sources:
                if source.client:
                    self._check_family(source, [call for call in calls if call["principal"] == source.client])
                    await self._sign_in_if_lost(source)
            if leader and self.growth:
                self.growth.sample(leader)
            await asyncio.sleep(1)

    async def wait_until_renewed(self) -> None:
        """Wait until each TokenRequest is Ready and was renewed again, which shows that its token is the live one."""
        before = self.revisions()
        for _ in range(_RECOVERY_SECONDS):
            waiting = [
                it for it in self.requests if not is_ready(it) or self.revisions()[_name(it)] == before[_name(it)]
            ]
            if before and self.requests and not waiting:
                return
            await asyncio.sleep(1)
            before = before or self.revisions()
        states = {_name(it): [condition["reason"] for condition in it["status"]["conditions"]] for it in waiting}
        self._journal.add_violation(f"not renewed {_RECOVERY_SECONDS} s after the last fault: {states}")

    def revisions(self) -> dict[str, int]:
        """Return how often each TokenRequest was issued."""
        return {_name(request): request["status"]["revision"] for request in self.requests}

    def _check_expiry(self, request: dict[str, Any]) -> None:
        expires = datetime.fromisoformat(request["status"]["expirationTime"])
        stale = now() - max(expires.timestamp(), self._calm_since)
        self.longest_stale = max(self.longest_stale, stale)
        if stale > TOLERANCE_SECONDS:
            self._journal.add_violation(f"{_name(request)} is Ready although its credentials expired at {expires}")

    def _check_family(self, source: Source, calls: list[dict[str, str]]) -> None:
        """Check how often a token was sent after the issuer had consumed it: at most once, in a final attempt."""
        consumed = [number for number, call in enumerate(calls) if call["outcome"] in {"200", "dropped after"}]
        if not consumed:
            return
        last, refused = calls[consumed[-1]], sum(it["outcome"] == "invalid_grant" for it in calls[consumed[-1] :])
        about = f"the token that {source.client} consumed at {last['at']}"
        if refused > 1:
            self._journal.add_violation(f"{about} was sent {refused} more times")
        if not refused or (source.client, last["at"]) in self._lost:
            return
        self._lost.add((source.client, last["at"]))
        was_dropped, at = last["outcome"] == "dropped after", datetime.fromisoformat(last["at"]).timestamp()
        if reason := "response lost" if was_dropped else self._journal.permitted_loss(at):
            self._journal.losses[reason] += 1
        else:
            self._journal.add_violation(f"{about} was sent again, although the process that sent it was alive")

    async def _sign_in_if_lost(self, source: Source) -> None:
        """Sign in again if a TokenRequest needs that: its final attempt was refused, or received no response either."""
        for request in self.requests:
            status, metadata = request["status"], request["metadata"]
            stalled = {it["reason"] for it in status["conditions"] if (it["type"], it["status"]) == ("Stalled", "True")}
            is_new = datetime.fromisoformat(status["lastAttemptTime"]).timestamp() > source.signed_in
            if metadata["namespace"] != source.namespace or "rotating" not in metadata["name"] or not is_new:
                continue
            if stalled & {"SourceInvalid", "StaleTokenRestored"}:
                self._journal.add_violation(f"{_name(request)} reports {stalled}")
            if stalled & {"RefreshOutcomeUnknown", "SourceInvalid", "StaleTokenRestored"}:
                self.sign_ins += 1
                await self._scenario.sign_in(source)

    async def _leader(self) -> Operator | None:
        for operator in self._scenario.operators:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.get(f"http://{operator.address}/metrics", timeout=_TIMEOUT) as response:
                    if sample(await response.text(), "keyturn_leader") == 1:
                        return operator
        return None


def _name(request: dict[str, Any]) -> str:
    return f"{request['metadata']['namespace']}/{request['metadata']['name']}"
