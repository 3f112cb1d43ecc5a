"""The keys that sign issuance records, so that a record that somebody else wrote or copied is not trusted."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from keyturn.core.issuance import ISSUANCE_ANNOTATION, Issuance, read_issuance, with_digest

_SIGNATURE = re.compile(r',"key":([0-9]{1,9}),"mac":"([0-9a-f]{64})","digest":"[0-9a-f]*"\}\Z')


@dataclass(frozen=True, slots=True)
class IssuanceKeys:
    """Keys by number: the highest signs, and all verify.

    A signature covers the namespace and the name of the Secret too: a record that was copied to another Secret does not
    verify.
    """

    keys: Mapping[int, bytes] = field(repr=False)

    def encode(self, issuance: Issuance, namespace: str, name: str) -> str:
        """Return the value of the annotation: the record with the number of the key and an HMAC-SHA256."""
        number, record = max(self.keys), msgspec.json.encode(issuance).decode()
        mac = _mac(self.keys[number], namespace, name, record)
        return with_digest(f'{record[:-1]},"key":{number},"mac":"{mac}"}}')

    def read(
        self, annotations: Mapping[str, str], namespace: str, name: str
    ) -> tuple[Issuance | None, Issuance | None]:
        """Return the record if it is verified, and the record if it is not; both are None if it cannot be read."""
        issuance = read_issuance(annotations)
        is_verified = issuance is not None and self._is_signed(annotations[ISSUANCE_ANNOTATION], namespace, name)
        return (issuance, None) if is_verified else (None, issuance)

    def _is_signed(self, text: str, namespace: str, name: str) -> bool:
        signature = _SIGNATURE.search(text)
        key = self.keys.get(int(signature[1])) if signature else None
        if signature is None or key is None:
            return False
        record = text[: signature.start()] + "}"
        return hmac.compare_digest(signature[2], _mac(key, namespace, name, record))


def _mac(key: bytes, namespace: str, name: str, record: str) -> str:
    # As a JSON list, so that no two combinations of values are signed as the same text.
    return hmac.new(key, msgspec.json.encode([namespace, name, record]), hashlib.sha256).hexdigest()
