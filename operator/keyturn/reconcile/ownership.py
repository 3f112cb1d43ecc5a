"""The owner reference of a target, which makes the garbage collector delete it with its TokenRequest."""

import logging

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.issuance import TargetSecret
from keyturn.reconcile.dependencies import Dependencies

_log = logging.getLogger(__name__)


async def read_and_disown(deps: Dependencies, request: Request) -> TargetSecret | None:
    """Return the target. If the request retains it, the owner reference is removed at once, and that of former targets.

    Otherwise the Secret of a request that is suspended, fails or waits would be deleted with it. If the removal fails,
    the next reconciliation tries again. A paused request may have none, so the error is raised.
    """
    target = await deps.store.read_target(request)
    if not request.should_retain_secret:
        return target
    try:
        await deps.store.disown_former(request)
        if target and request.uid in target.owners:
            return await deps.store.disown(request, target)
    except (UnavailableError, RefusedError) as error:
        if request.is_paused:
            raise
        _log.warning("%s: the owner reference was not removed: %s", request.namespaced_name, error)
    return target
