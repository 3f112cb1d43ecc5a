"""An issuance record for the tests of kubectl keyturn."""

from msgspec.structs import replace

from keyturn.core.issuance import data_hash
from tests.support.dependencies import MINUTE, NOW, ROLE
from tests.support.issuance import ISSUANCE, REQUEST

DATA = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "credentials.json": '{"planted-value": 1}', "expiration": "2026"}
ISSUED = replace(
    ISSUANCE, renew=NOW + 40 * MINUTE, data_hash=data_hash(DATA, REQUEST), keys=tuple(DATA), principal=ROLE
)
