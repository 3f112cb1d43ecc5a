"""An issuance record and a Secret that contains it."""

from dataclasses import replace
from typing import Any

from keyturn.core.issuance import Issuance, TargetSecret, data_hash, labels, source_fingerprint
from keyturn.core.pipeline_values import SourceValues
from tests.support.dependencies import HOUR, NOW, request

REQUEST = request()
DATA = {"token": "planted", "expiration": "2026-01-02T04:04:05Z"}
ISSUANCE = Issuance(
    request="acme",
    uid="acme-0001",
    issued=NOW,
    expires=NOW + HOUR,
    renew=NOW,
    jitter=0.25,
    request_hash=REQUEST.request_hash,
    exchange_hash=REQUEST.exchange_hash,
    metadata_hash=REQUEST.metadata_hash,
    data_hash=data_hash(DATA, REQUEST),
    source=source_fingerprint(SourceValues("refresh-token"), REQUEST),
    revision=1,
    keys=tuple(DATA),
)
TARGET = TargetSecret("secret-1", "1", ISSUANCE, labels(REQUEST), {}, frozenset({REQUEST.uid}))


def target_with(**fields: Any) -> TargetSecret:
    """TARGET with other fields."""
    return replace(TARGET, **fields)
