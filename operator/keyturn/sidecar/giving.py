"""From what was issued to what the endpoint serves."""

from dataclasses import dataclass

from keyturn.core.model import Request
from keyturn.sidecar.served import Held, Served, UnservableError, served
from keyturn.sidecar.store import Kept

NOTHING_TO_SERVE = (
    "the endpoint gives AWS credentials: the request's formats must have one of env and credentialProcess"
)


@dataclass(slots=True)
class Giving:
    """What `request` is issued goes to `held` at once. `serves` is whether an endpoint serves it."""

    held: Held
    request: Request
    serves: bool

    def give(self, kept: Kept) -> None:
        """Replace what is held; what cannot be served replaces nothing."""
        if kept.marks is None:
            return
        try:
            self.held.served = served(kept.data, _key(self.request)) if self.serves else _unread(kept)
        except UnservableError as error:
            self.held.trouble = str(error)


def is_servable(request: Request) -> bool:
    """Whether the formats of a request hold what the endpoint serves."""
    return any(wanted.env or wanted.credential_process for wanted in request.spec.formats)


def _key(request: Request) -> str:
    """The key of a credential process; no key of a Secret is empty."""
    keys = [key for wanted in request.spec.formats if wanted.credential_process for key in wanted.options.keys]
    return keys[0] if keys else ""


def _unread(kept: Kept) -> Served | None:
    """What readiness looks at where nobody is served."""
    return Served("", kept.marks.expires, b"") if kept.marks else None
