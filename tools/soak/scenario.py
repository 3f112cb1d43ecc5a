"""The environment of a soak: a new cluster and AWS, two operators behind a proxy, sources and TokenRequests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.cluster import namespace
from tests.support.cluster.api_proxy import ApiProxy
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.rotating_source import refresh_step, rotating_request
from tests.support.cluster.sources import USER_KEYS
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_SECRET
from tools.bench import environment
from tools.bench.client import API
from tools.bench.environment import Environment, running_environment
from tools.soak.journal import now

LIFETIME_SECONDS = 20
_GROUPS = 4
_APPLY = "application/apply-patch+yaml"


@dataclass(slots=True)
class Source:
    """A source Secret as the user last wrote it; `client` is the OAuth client that rotates its token.

    `signed_in` is when the user obtained the token, in Unix time.
    """

    namespace: str
    name: str
    data: dict[str, str] = field(repr=False)
    client: str = ""
    signed_in: float = 0

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.name}"


@dataclass(slots=True)
class Scenario:
    """A running soak. The lock `processes` prevents a start during another start or during a signal."""

    env: Environment
    proxy: ApiProxy
    operators: list[Operator]
    sources: list[Source] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    processes: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def aws(self) -> Emulator:
        return self.env.aws

    async def send(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """Send a request to the API server; raises TimeoutError if it does not respond in time."""
        async with asyncio.timeout(5):
            return await self.env.client.request(method, path, body, kind)

    async def put(self, source: Source) -> None:
        """Create or replace a source Secret, however long the API server takes. The operator watches its label."""
        metadata = {"name": source.name, "labels": {"keyturn.dev/source": "true"}}
        while True:
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": source.data}
            with suppress(aiohttp.ClientError, TimeoutError):
                await self.send("PATCH", f"{source.path}?fieldManager=soak&force=true", body, _APPLY)
                return
            await asyncio.sleep(1)

    async def sign_in(self, source: Source) -> None:
        """Start a new token family, as a person does when signing in again."""
        source.data = {"refresh_token": self.aws.oauth_refresh_token(source.client)}
        await self.put(source)
        source.signed_in = now()

    async def create(self) -> None:
        """Create four groups: two requests that share a rotating token, a License Manager role and a session."""
        for number in range(_GROUPS):
            space, client = f"bench-{number}", f"soak-{number}"
            self.aws.oauth_client(client, client_secret=CLIENT_SECRET)
            rotating = Source(space, "source", {}, client)
            license_token = Source(space, "license", {"license_token": self.aws.refresh_token()})
            self.sources += [rotating, license_token, Source(space, "keys", USER_KEYS)]
            await self.sign_in(rotating)
            await self.put(license_token)
            await self.put(Source(space, "client", {"secret": CLIENT_SECRET, "ca": self.aws.ca}))
            exchanges = [refresh_step(self.aws, clientId=client)]
            names = ("rotating-a", "rotating-b")
            requests = [rotating_request(self.aws, name, exchanges=exchanges) for name in names]
            requests += [namespace.token_request("license-role"), environment.token_request(number)]
            for request in requests:
                await self.send("POST", f"{API}/namespaces/{space}/tokenrequests", request)
                self.targets.append(f"/api/v1/namespaces/{space}/secrets/{request['metadata']['name']}")


@asynccontextmanager
async def running_scenario() -> AsyncIterator[Scenario]:
    """Start everything, and wait until each TokenRequest is Ready."""
    async with running_environment() as env:
        env.aws.settings(session_seconds=LIFETIME_SECONDS, oauth_access_seconds=LIFETIME_SECONDS)
        proxy = env.stack.enter_context(ApiProxy.running(env.plane))
        operators = []
        for number in range(2):
            directory = env.directory / f"operator-{number}"
            directory.mkdir()
            program = ("-m", "tools.soak.counted_operator", str(directory / "tasks"))
            operator = running_operator(
                proxy, env.aws, directory, flags=("--log-level=info",), settings=LOOPBACK, program=program
            )
            operators.append(env.stack.enter_context(operator))
            env.stack.callback(operators[-1].thaw)
        scenario = Scenario(env, proxy, operators)
        await scenario.create()
        await env.wait_until_ready(120)
        yield scenario
