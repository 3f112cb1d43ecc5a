"""Publishes what was issued to the cache that the credentials endpoint serves."""

from dataclasses import dataclass

from keyturn.api.token_request import Request
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError, ServedCredentials, parse_credentials
from keyturn.standalone.file_store import Target

NOTHING_TO_SERVE = "to serve credentials, the request needs one of the formats env and credentialProcess"


@dataclass(frozen=True, slots=True)
class CredentialPublisher:
    """Publishes to `cache`. `serves` is whether an endpoint serves the credentials from it."""

    cache: CredentialCache
    serves: bool

    def publish(self, request: Request, target: Target) -> None:
        """Replace the cached credentials, unless the target has no valid issuance record or cannot be served."""
        if target.issuance is None:
            return
        try:
            # Without an endpoint the cache only answers the readiness probe, which needs the expiration time.
            credentials = (
                parse_credentials(target.data, _credential_process_key(request))
                if self.serves
                else ServedCredentials("", target.issuance.expires, b"")
            )
        except NoCredentialsError as error:
            self.cache.failure = str(error)
        else:
            self.cache.publish(credentials)


def is_servable(request: Request) -> bool:
    """Whether the endpoint can serve the formats of a request."""
    return any(one.env or one.credential_process for one in request.spec.formats)


def _credential_process_key(request: Request) -> str:
    """The key of the first credentialProcess format; empty, which no key of a Secret is, if there is none."""
    keys = [key for one in request.spec.formats if one.credential_process for key in one.options.keys]
    return keys[0] if keys else ""
