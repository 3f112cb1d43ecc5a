"""The lower bound: the requests and AWS calls of the operator's first issuances from a minimal client, 16 in flight.

The program reads the requests from stdin; it has no watch, no queue and no decisions.
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tools.bench.client import IN_FLIGHT, Client, run_all
from tools.bench.issuance_requests import IssuanceRequests, Place


class Raw:
    """A minimal client of the API server and of AWS."""

    def __init__(self, work: dict[str, Any], client: Client) -> None:
        self._requests = IssuanceRequests(work["bodies"])
        self._needs_dry_run = work["dry_run"]
        self._client = client
        self._threads = ThreadPoolExecutor(IN_FLIGHT)
        self._sts = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=work["aws"],
            aws_access_key_id=work["key_id"],
            aws_secret_access_key=work["secret_key"],
            config=Config(max_pool_connections=IN_FLIGHT),
        )

    async def issue(self, place: Place) -> None:
        """Send the requests that the operator sends for a first issuance, in the same order."""
        await self._client.send(self._requests.source_read(place))
        if self._needs_dry_run:
            await self._client.send(self._requests.secret_apply(place, dry_run=True))
        await asyncio.get_running_loop().run_in_executor(self._threads, self._sts.get_session_token)
        await self._client.send(self._requests.secret_apply(place))
        await self._client.send(self._requests.status_write(place))
        await self._client.send(self._requests.event(place))


async def main() -> None:
    work = json.load(sys.stdin)
    async with Client.connect(Path(work["kubeconfig"])) as client:
        raw = Raw(work, client)
        await run_all(raw.issue(Place(*place)) for place in work["places"])


if __name__ == "__main__":
    asyncio.run(main())
