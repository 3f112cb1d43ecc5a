"""Valid and invalid TokenRequests, on which Python and the API server must agree.

GOOD maps names to specs. BAD maps what both report (a rule's message, or the path of the field) to named specs.
"""

from typing import Any

from tests.support.dependencies import manifest
from tests.support.manifests import bad, clients, cognito, formats, good, registries, sessions, sources, tokens

_TABLES = (formats, tokens, clients, sessions, cognito, registries, sources)
_SPECS: list[tuple[str, dict[str, Any], str | None]] = [
    *((name, spec, None) for table in (good, *_TABLES) for name, spec in table.GOOD.items()),
    *(
        (name, spec, message)
        for table in (bad, *_TABLES)
        for message, specs in table.BAD.items()
        for name, spec in specs.items()
    ),
]
NAMES = [name for name, _, _ in _SPECS]
MANIFESTS = {name: (manifest(**spec), message) for name, spec, message in _SPECS}
