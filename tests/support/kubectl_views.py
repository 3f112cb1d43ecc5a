"""An issuance record for the tests of kubectl keyturn."""

from keyturn.core.issuance import Issuance, data_hash, source_fingerprint
from keyturn.core.pipeline_values import SourceValues
from tests.support.dependencies import HOUR, MINUTE, NOW, ROLE, request

DATA = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "credentials.json": '{"planted-value": 1}', "expiration": "2026"}
REQUEST = request()
ISSUED = Issuance(
    request="acme",
    uid="acme-0001",
    issued=NOW,
    expires=NOW + HOUR,
    renew=NOW + 40 * MINUTE,
    jitter=0.25,
    request_hash=REQUEST.request_hash,
    exchange_hash=REQUEST.exchange_hash,
    metadata_hash=REQUEST.metadata_hash,
    data_hash=data_hash(DATA, REQUEST),
    source=source_fingerprint(SourceValues("refresh-token"), REQUEST),
    revision=1,
    keys=tuple(DATA),
    principal=ROLE,
)
