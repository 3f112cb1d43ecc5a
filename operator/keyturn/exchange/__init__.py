"""One small file per system that tokens are exchanged with; siblings do not know each other."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from keyturn.core.holding import Holding
from keyturn.core.model import Exchange, Request
from keyturn.core.model.exchanges import AssumeRoleWithWebIdentity, LicenseManagerGetAccessToken
from keyturn.exchange import license_manager, sts
from keyturn.exchange.aws import Aws, Call
from keyturn.exchange.session_name import session_name

EXCHANGES: Mapping[type, Callable[[Aws, Any, Holding, Call], Awaitable[Holding]]] = {
    LicenseManagerGetAccessToken: license_manager.get_access_token,
    AssumeRoleWithWebIdentity: sts.assume_role_with_web_identity,
}


async def exchange(aws: Aws, request: Request, step: Exchange, holding: Holding) -> Holding:
    """Run one step of a pipeline; raises the errors of core.errors and nothing else."""
    wanted = step.operation
    call = Call(
        region=wanted.region or request.spec.region or "",
        session_name=session_name(request.namespace, request.name),
    )
    return await EXCHANGES[type(wanted)](aws, wanted, holding, call)
