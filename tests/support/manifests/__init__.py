"""Good and bad TokenRequests. Python and the API server must agree about each.

The sentence is what both say of a bad one: our rule's, else the path of the field. None means a good one.
"""

from typing import Any

from tests.support.dependencies import manifest
from tests.support.manifests import bad, cognito, formats, good, registries, sessions, sources, tokens

_TABLES = (formats, tokens, sessions, cognito, registries, sources)
_SPECS: list[tuple[str, tuple[dict[str, Any], str | None]]] = [
    *((name, (spec, None)) for table in (good, *_TABLES) for name, spec in table.GOOD.items()),
    *(one for table in (bad, *_TABLES) for one in table.BAD.items()),
]
NAMES = [name for name, _ in _SPECS]
MANIFESTS = {name: (manifest(**spec), message) for name, (spec, message) in _SPECS}
