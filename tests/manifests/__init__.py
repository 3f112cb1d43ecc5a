"""Good and bad TokenRequests. Python and the API server must agree about each.

The sentence is what both say of a bad one: our rule's, else the path of the field. None means a good one.
"""

from typing import Any

from tests.manifests import cognito, sessions
from tests.manifests.bad import BAD
from tests.manifests.good import GOOD
from tests.world import manifest

MANIFESTS: dict[str, tuple[dict[str, Any], str | None]] = {
    **{name: (manifest(**spec), None) for name, spec in (GOOD | sessions.GOOD | cognito.GOOD).items()},
    **{name: (manifest(**spec), says) for name, (spec, says) in (BAD | sessions.BAD | cognito.BAD).items()},
}
