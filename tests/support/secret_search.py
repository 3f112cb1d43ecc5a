"""Finds secret values in text, also when they are encoded."""

import base64
import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote


def _encodings(secret: str) -> Iterator[str]:
    """Yield a value as it may appear in text: plain, URL-encoded, in JSON and in base64 at each of three offsets."""
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    for offset in range(3):
        encoded = base64.b64encode(b"-" * offset + secret.encode()).decode()
        yield encoded[4 if offset else 0 : len(encoded) - 4]


def find_secrets(texts: Mapping[str, str], secrets: list[str]) -> list[tuple[str, str]]:
    """Return the name of each text that contains a secret, with the secret's first 12 characters."""
    patterns = {encoding: secret[:12] for secret in secrets for encoding in _encodings(secret)}
    return [(name, patterns[pattern]) for name, text in texts.items() for pattern in patterns if pattern in text]
