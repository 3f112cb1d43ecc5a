"""From what was issued to what the endpoint serves."""

from dataclasses import dataclass

from keyturn.api.token_request import Request
from keyturn.sidecar.credential_cache import Held, Served, UnservableError, served
from keyturn.standalone.file_store import Issued

NOTHING_TO_SERVE = (
    "the endpoint gives AWS credentials: the request's formats must have one of env and credentialProcess"
)


@dataclass(frozen=True, slots=True)
class Giving:
    """What is issued goes to `held` at once. `serves` is whether an endpoint serves it."""

    held: Held
    serves: bool

    def give(self, request: Request, issued: Issued) -> None:
        """Replace what is held; what cannot be served replaces nothing."""
        issuance = issued.issuance
        if issuance is None:
            return
        try:
            # Where nobody is served, readiness looks at the end.
            found = served(issued.data, _key(request)) if self.serves else Served("", issuance.expires, b"")
        except UnservableError as error:
            self.held.trouble = str(error)
        else:
            self.held.served = found


def is_servable(request: Request) -> bool:
    """Whether the formats of a request hold what the endpoint serves."""
    return any(wanted.env or wanted.credential_process for wanted in request.spec.formats)


def _key(request: Request) -> str:
    """The key of a credential process; no key of a Secret is empty."""
    keys = [key for wanted in request.spec.formats if wanted.credential_process for key in wanted.options.keys]
    return keys[0] if keys else ""
