"""The token of the pod's own ServiceAccount, as the kubelet projects it into a file."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from keyturn.api.times import rfc3339
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import jwt_claims, jwt_times
from keyturn.standalone.source_files import Sources

_ACCOUNT = "system:serviceaccount:"


class ProjectedToken:
    """Reads the token. Whom it is for and how long it lives is said where the pod mounts it, not here."""

    def __init__(self, file: Path | None, sources: Sources, now: Callable[[], datetime]) -> None:
        self._file = file
        self._sources = sources
        self._now = now

    async def make_token(self, _namespace: str, name: str, audiences: tuple[str, ...], _seconds: int) -> str:
        """Read the token, fresh; raises RefusedError unless it is this ServiceAccount's, for these audiences."""
        if self._file is None:
            raise RefusedError("SourceNotFound", "no file holds a ServiceAccount's token: --service-account-token-file")
        token = await self._sources.read_file(self._file)
        claims = jwt_claims(token)
        if claims is None:
            raise RefusedError("SourceInvalid", "the file of --service-account-token-file holds no JWT")
        _check_audiences(claims, audiences)
        # A manifest need not name its namespace, so that is not compared.
        whose = str(claims.get("sub", ""))
        if whose.startswith(_ACCOUNT) and whose.rpartition(":")[2] != name:
            raise RefusedError("SourceInvalid", f"the projected token is that of {whose}, not of ServiceAccount {name}")
        ends = jwt_times(token)[1]
        if ends and ends <= self._now():
            raise RefusedError("SourceExpired", f"the projected token expired at {rfc3339(ends)}")
        return token


def _check_audiences(claims: dict[str, Any], audiences: tuple[str, ...]) -> None:
    given = claims.get("aud")
    given = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    missing = [it for it in audiences if it not in given]
    if missing:
        told = ", ".join(map(str, given)) or "nobody"
        raise RefusedError(
            "SourceInvalid",
            f"the projected token is for {told}, and not for {', '.join(missing)}: "
            "set the audience where the pod mounts it",
        )
