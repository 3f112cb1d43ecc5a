"""The role session name that CloudTrail shows."""

import hashlib
import re

_LONGEST = 64


def session_name(namespace: str, name: str) -> str:
    """Make `<namespace>.<name>` fit for STS: 2 to 64 characters of `[A-Za-z0-9_+=,.@-]`.

    What is too long is cut, and ends in a hash of the whole, so that two long names do not become one.
    """
    full = re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", f"{namespace}.{name}")
    if len(full) <= _LONGEST:
        return full
    return f"{full[: _LONGEST - 9]}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
