"""A copy of what the operator sent for one of its issuances, and TokenRequests to send it for."""

import json
from typing import Any

from keyturn.api.status import Status
from tools.bench.client import run_all
from tools.bench.environment import Environment, collection, token_request, until
from tools.bench.issuance_requests import IssuanceRequests, Place

_COPIED = ("labels", "annotations", "ownerReferences")


async def read_sample(env: Environment) -> IssuanceRequests:
    """Copy what the operator sent for the first TokenRequest of the list."""
    sample = (await env.client.requests())[0]
    meta = sample["metadata"]
    core = f"/api/v1/namespaces/{meta['namespace']}"
    secret = await env.client.request("GET", f"{core}/secrets/{meta['name']}")

    async def events() -> list[dict[str, Any]]:
        selector = f"involvedObject.name={meta['name']}"
        response = await env.client.request("GET", f"{core}/events?fieldSelector={selector}")
        items: list[dict[str, Any]] = response["items"]
        return items

    [event, *_] = await until(events, 10)
    bodies = {
        "secret": {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": meta["name"], **{key: secret["metadata"][key] for key in _COPIED}},
            "data": secret["data"],
        },
        "status": {
            "metadata": {"uid": meta["uid"]},
            "status": {key: sample["status"].get(key) for key in Status.__struct_encode_fields__},
        },
        "event": {key: value for key, value in event.items() if key not in ("metadata", "apiVersion", "kind")}
        | {"metadata": {"generateName": f"{meta['name']}."}},
    }
    text = json.dumps(bodies).replace(meta["uid"], "SAMPLE-UID").replace(meta["name"], "SAMPLE-NAME")
    return IssuanceRequests(json.loads(text))


async def create_places(env: Environment, prefix: str, number: int) -> list[Place]:
    """Create TokenRequests in existing namespaces with this prefix."""
    places: list[Place] = []

    async def create(one: int) -> None:
        created = await env.client.request("POST", collection(one, prefix), token_request(one))
        places.append(Place(*(created["metadata"][key] for key in Place._fields)))

    await run_all(create(one) for one in range(number))
    return places
