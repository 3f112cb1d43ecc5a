"""The names that CloudTrail shows for sessions."""

import hashlib
import re

_LONGEST = 64
_SHORTEST = 2
_DEFAULT = "{namespace}.{name}"


def session_name(namespace: str, name: str, template: str | None = None, longest: int = _LONGEST) -> str:
    """Make a name that STS takes, 2 to `longest` of `[A-Za-z0-9_+=,.@-]`; by default `<namespace>.<name>`.

    What is too long is cut, and ends in a hash of the whole, so that two long names do not become one.
    """
    filled = (template or _DEFAULT).replace("{namespace}", namespace).replace("{name}", name)
    full = re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", filled).ljust(_SHORTEST, "-")
    if len(full) <= longest:
        return full
    return f"{full[: longest - 9]}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
