"""Reads the pod's own service account token, which the kubelet writes to a file."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from keyturn.api.times import rfc3339
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import jwt_claims, jwt_times
from keyturn.standalone.source_files import SourceFiles

_SUBJECT_PREFIX = "system:serviceaccount:"


class ProjectedToken:
    """A projected service account token. The pod's spec sets its audience and lifetime."""

    def __init__(self, file: Path | None, sources: SourceFiles, now: Callable[[], datetime]) -> None:
        self._file = file
        self._sources = sources
        self._now = now

    async def make_token(self, _namespace: str, name: str, audiences: tuple[str, ...], _seconds: int) -> str:
        """Read the token; raises RefusedError if it expired or is for another service account or audience."""
        if self._file is None:
            raise RefusedError(
                "SourceNotFound", "the source is a service account, but --service-account-token-file is not set"
            )
        token = await self._sources.read_file(self._file)
        claims = jwt_claims(token)
        if claims is None:
            raise RefusedError("SourceInvalid", "the file of --service-account-token-file does not contain a JWT")
        audience = claims.get("aud")
        allowed = audience if isinstance(audience, list) else [audience] if isinstance(audience, str) else []
        if missing := [required for required in audiences if required not in allowed]:
            raise RefusedError(
                "SourceInvalid",
                f"the projected token has audience {', '.join(map(str, allowed)) or 'none'}, not {', '.join(missing)}: "
                "set the audience in the pod's projected volume",
            )
        # The namespace is not compared: a manifest in a file may omit it.
        subject = str(claims.get("sub", ""))
        if subject.startswith(_SUBJECT_PREFIX) and subject.rpartition(":")[2] != name:
            raise RefusedError("SourceInvalid", f"the projected token is for {subject}, not for service account {name}")
        expires_at = jwt_times(token)[1]
        if expires_at and expires_at <= self._now():
            raise RefusedError("SourceExpired", f"the projected token expired at {rfc3339(expires_at)}")
        return token
