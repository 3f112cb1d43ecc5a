"""A Secret of ours makes room for one of another type: nobody can change the type of a Secret."""

from collections.abc import Mapping
from typing import Any

from keyturn.core.model import Request
from keyturn.kube.api import JSON, Kube, refusal


async def retire(
    kube: Kube, request: Request, manifest: dict[str, Any], data: Mapping[str, str], uid: str
) -> None:
    """Delete the target, if it still is the one with this uid, once `manifest` can take its place.

    Raises RefusedError (WriteRefused). The new one is tried first, under another name: a policy that refuses it
    must not cost the Secret that there is.
    """
    secrets = f"/api/v1/namespaces/{request.namespace}/secrets"
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "name"}
    trial = manifest | {"metadata": metadata | {"generateName": "keyturn-trial-"}}
    answer = await kube.ask("POST", secrets, trial, query={"dryRun": "All"})
    if not answer.refused:
        precondition = {"preconditions": {"uid": uid}}
        answer = await kube.ask("DELETE", f"{secrets}/{request.secret_name}", precondition, kind=JSON)
    if answer.refused and answer.found:
        raise refusal(answer, f"Secret {request.secret_name}", data)
