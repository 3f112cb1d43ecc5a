"""Reads sources from files, and the pod's own service account token."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.der import binary_hint
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import AWS_KEYS, REQUIRED_AWS_KEYS, SourceValues, parse_source, require_content
from keyturn.core.token_times import jwt_claims, jwt_times
from keyturn.sidecar.mounted_files import (
    MAX_SECRET_BYTES,
    FileFingerprint,
    IrregularFileError,
    file_fingerprint,
    read_regular_file,
)

_ATTEMPTS = 5
_SUBJECT_PREFIX = "system:serviceaccount:"


class SourceFiles:
    """Reads the files that a request refers to: DIRECTORY/NAME/KEY is a key of the Secret or ConfigMap NAME.

    API validation rejects names and keys that contain a path or `..`.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        # Replaced and never changed, because a check of the files may still be in progress in another thread.
        self._seen: Mapping[Path, FileFingerprint | None] = {}
        self._exchange_hash = ""

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source of a request, and the single-use credential of a step if it has one.

        Raises RefusedError: SourceNotFound, SourceKeyEmpty, SourceForbidden, SourceInvalid; UnavailableError if the
        files keep changing.
        """
        return await asyncio.to_thread(self._read_source, request)

    async def read_value(self, _namespace: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        """Read a value that a step refers to, such as a client secret."""
        return await self.read_file(self._path(ref.name) / ref.key)

    async def read_file(self, path: Path) -> str:
        """Read any other file. Raises the same errors as `read_source`."""
        return (await asyncio.to_thread(self._read, [path]))[path].strip()

    def has_changed(self) -> bool:
        """Whether a file has been changed, created or removed since it was read."""
        return any(file_fingerprint(path) != seen for path, seen in self._seen.items())

    def acknowledge_changes(self) -> bool:
        """Return whether a file has changed, and record its new state: a reconciliation may not read every file."""
        previous = self._seen
        current = _fingerprints(previous)
        self._seen = {**self._seen, **current}
        return previous != current

    def _read_source(self, request: Request) -> SourceValues:
        source, single_use = request.spec.source, request.spec.single_use_ref
        if request.exchange_hash != self._exchange_hash:
            self._seen, self._exchange_hash = {}, request.exchange_hash
        paths = {ref: self._path(ref.name) / ref.key for ref in (source.token_ref, single_use) if ref}
        values = self._read(paths.values())
        keys = None
        if source.keys_ref:
            directory = self._path(source.keys_ref.name)
            files = self._read([directory / key for key in AWS_KEYS], [directory / key for key in REQUIRED_AWS_KEYS])
            keys = {path.name: value for path, value in files.items()}
        return parse_source(
            token=values[paths[source.token_ref]] if source.token_ref else None,
            keys=keys,
            single_use_credential=values[paths[single_use]] if single_use else None,
        )

    def _path(self, name: str) -> Path:
        if self._directory is None:
            raise RefusedError("SourceNotFound", f"the request reads {name}, but --sources-dir is not set")
        return self._directory / name

    def _read(self, paths: Iterable[Path], required: Iterable[Path] | None = None) -> dict[Path, str]:
        """Read files that belong to the same version. By default, all of them are required."""
        paths = list(paths)
        required = paths if required is None else list(required)
        for _ in range(_ATTEMPTS):
            fingerprints = _fingerprints(paths)
            self._seen = {**self._seen, **fingerprints}
            try:
                values = {path: read_text(path) for path in paths if fingerprints[path] or path in required}
                for path in required:
                    require_content(values[path], str(path))
            except RefusedError:
                # The kubelet deletes the previous version immediately, so the file may exist in the new version.
                if _fingerprints(paths) == fingerprints:
                    raise
                continue
            if _fingerprints(paths) == fingerprints:
                return values
        raise UnavailableError("Unavailable", f"the files in {paths[0].parent} keep changing while they are read")


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
                "SourceNotFound",
                f"the request uses a token of service account {name}, but --service-account-token-file is not set",
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
                "change the audience in the pod's projected volume",
            )
        # The namespace is not compared: a manifest in a file may omit it.
        subject = str(claims.get("sub", ""))
        if subject.startswith(_SUBJECT_PREFIX) and subject.rpartition(":")[2] != name:
            raise RefusedError("SourceInvalid", f"the projected token is for {subject}, not for service account {name}")
        expires_at = jwt_times(token).expires_at
        if expires_at and expires_at <= self._now():
            raise RefusedError("SourceExpired", f"the projected token expired at {rfc3339(expires_at)}")
        return token


def read_text(path: Path) -> str:
    """Read a file.

    Raises RefusedError: SourceNotFound if it is missing, SourceForbidden if it may not be read, SourceInvalid if it is
    not text.
    """
    try:
        content = read_regular_file(path, MAX_SECRET_BYTES)
    except FileNotFoundError:
        raise RefusedError("SourceNotFound", f"{path} does not exist") from None
    except PermissionError as error:
        problem = f"{path} cannot be read: {error.strerror}; let user {os.geteuid()} read it"
        raise RefusedError("SourceForbidden", problem) from None
    except OSError as error:
        reason = "SourceInvalid" if isinstance(error, IrregularFileError) else "SourceNotFound"
        raise RefusedError(reason, f"{path} cannot be read: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RefusedError("SourceInvalid", f"{path} is not text{binary_hint(content)}") from None


def _fingerprints(paths: Iterable[Path]) -> dict[Path, FileFingerprint | None]:
    return {path: file_fingerprint(path) for path in paths}
