"""Keys that sign issuance records."""

from keyturn.core.issuance import IssuanceKeys

KEYS = IssuanceKeys({1: b"1" * 32})
OTHER_KEYS = IssuanceKeys({1: b"another operator's key".ljust(32)})
