"""The lower bound: the requests and AWS calls of the operator's first issuances from a minimal client, 16 in flight.

The program reads the requests from stdin; it has no watch, no queue and no decisions.
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import boto3
from botocore.config import Config

from tools.bench.client import API, run_all, session

_ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_JSON, _MERGE, _APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"
_IN_FLIGHT = 16


class Raw:
    """A minimal client of the API server and of AWS."""

    def __init__(self, work: dict[str, Any], http: aiohttp.ClientSession) -> None:
        self._work = work
        self._http = http
        self._threads = ThreadPoolExecutor(_IN_FLIGHT)
        self._sts = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=work["aws"],
            aws_access_key_id=work["key_id"],
            aws_secret_access_key=work["secret_key"],
            config=Config(max_pool_connections=_IN_FLIGHT),
        )

    async def issue(self, namespace: str, name: str, uid: str) -> None:
        """Send the requests that the operator sends for a first issuance, in the same order."""
        bodies = {kind: _addressed(self._work[kind], name, uid) for kind in ("secret", "status", "event")}
        core, ours = f"/api/v1/namespaces/{namespace}", f"{API}/namespaces/{namespace}"
        secret = f"{core}/secrets/{name}?fieldManager=keyturn-{uid[:8]}"
        await self._send("GET", f"{core}/secrets/keys")
        if self._work["dry_run"]:
            await self._send("PATCH", f"{secret}&dryRun=All", bodies["secret"] | {"data": {}}, _APPLY)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._sts.get_session_token)
        await self._send("PATCH", secret, bodies["secret"], _APPLY)
        await self._send("PATCH", f"{ours}/tokenrequests/{name}/status", bodies["status"], _MERGE)
        bodies["event"]["metadata"]["namespace"] = bodies["event"]["involvedObject"]["namespace"] = namespace
        await self._send("POST", f"{core}/events", bodies["event"])

    async def _send(self, method: str, path: str, body: object = None, kind: str = _JSON) -> None:
        headers = {"Content-Type": kind, "Accept": _ONE if kind == _APPLY else _JSON}
        async with self._http.request(method, path, json=body, headers=headers) as response:
            await response.read()
            response.raise_for_status()


def _addressed(sample: dict[str, Any], name: str, uid: str) -> dict[str, Any]:
    """Replace the placeholders with a name and a uid."""
    text = json.dumps(sample).replace("SAMPLE-UID", uid).replace("SAMPLE-NAME", name)
    addressed: dict[str, Any] = json.loads(text)
    return addressed


async def main() -> None:
    work = json.load(sys.stdin)
    async with session(Path(work["kubeconfig"])) as http:
        raw = Raw(work, http)
        await run_all(raw.issue(*place) for place in work["places"])


if __name__ == "__main__":
    asyncio.run(main())
