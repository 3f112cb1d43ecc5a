"""Publishes issued credentials to the cache of the credentials endpoint."""

from dataclasses import dataclass

from keyturn.api.token_request import Request
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError, ServedCredentials, parse_credentials
from keyturn.standalone.file_store import Target

NO_SERVABLE_FORMAT = "to serve credentials, the request needs one of the formats env and credentialProcess"


@dataclass(frozen=True, slots=True)
class CredentialPublisher:
    """Publishes to `cache`. `has_endpoint` is whether an endpoint serves the cached credentials."""

    cache: CredentialCache
    has_endpoint: bool

    def publish(self, request: Request, target: Target) -> None:
        """Replace the cached credentials, unless the target has no valid issuance record or cannot be served."""
        if target.issuance is None:
            return
        specs = [format_spec for format_spec in request.spec.formats if format_spec.credential_process]
        keys = [key for format_spec in specs for key in format_spec.options.keys]
        try:
            # Without an endpoint, the cache only serves the readiness probe, which needs the expiration time.
            credentials = (
                parse_credentials(target.data, keys[0] if keys else "")  # "" is not a valid key
                if self.has_endpoint
                else ServedCredentials("", target.issuance.expires, b"")
            )
        except NoCredentialsError as error:
            self.cache.failure = str(error)
        else:
            self.cache.publish(credentials)


def is_servable(request: Request) -> bool:
    """Whether the endpoint can serve the formats of a request."""
    return any(format_spec.env or format_spec.credential_process for format_spec in request.spec.formats)
