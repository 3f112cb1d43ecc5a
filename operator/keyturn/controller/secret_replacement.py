"""A Secret of ours makes room for one of another type: nobody can change the type of a Secret."""

from collections.abc import Mapping
from typing import Any

from keyturn.api.token_request import Request
from keyturn.controller.api_client import JSON, ApiClient, ApiResponse, refusal, secrets_path


async def try_anew(api: ApiClient, request: Request, manifest: dict[str, Any]) -> ApiResponse:
    """Try to make a Secret without making it, under another name, for the target's own is taken."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in ("name", "resourceVersion")}
    trial = manifest | {"metadata": metadata | {"generateName": "keyturn-trial-"}}
    return await api.request("POST", secrets_path(request.namespace), trial, query={"dryRun": "All"})


async def retire(api: ApiClient, request: Request, manifest: dict[str, Any], data: Mapping[str, str], uid: str) -> None:
    """Delete the target, if it still is the one with this uid, once `manifest` can take its place.

    Raises RefusedError (WriteDenied). The new one is tried first: a policy that refuses it must not cost the
    Secret that there is.
    """
    response = await try_anew(api, request, manifest)
    if not response.refused:
        precondition = {"preconditions": {"uid": uid}}
        path = secrets_path(request.namespace, request.secret_name)
        response = await api.request("DELETE", path, precondition, kind=JSON)
    if response.refused and response.found:
        raise refusal(response, f"Secret {request.secret_name}", data)
