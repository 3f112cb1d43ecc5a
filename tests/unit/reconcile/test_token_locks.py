import math

from msgspec import structs

from keyturn.core.token_family import Intent, TokenFamily
from keyturn.reconcile.token_locks import TokenLocks
from tests.support.dependencies import NOW, SECOND, rotating

INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
PLACE = ("billing", "license-keyturn")


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_observation_starts_again_when_the_intent_changes() -> None:
    clock = Clock()
    locks = TokenLocks(clock)
    locks.observe(PLACE, INTENT)
    clock.seconds = 10
    assert locks.observe(PLACE, INTENT) == 10

    assert locks.observe(PLACE, structs.replace(INTENT, start=NOW + SECOND)) == 0
    assert locks.observe(PLACE, INTENT) == 0


def test_intent_of_a_terminated_holder_needs_no_observation() -> None:
    assert TokenLocks(Clock(), is_dead=lambda holder: holder == "pod-1").observe(PLACE, INTENT) == math.inf


def test_observed_intents_are_forgotten_when_they_are_gone() -> None:
    locks = TokenLocks(Clock())
    for number in range(1000):
        locks.observe(("billing", str(number)), INTENT)
        locks.observe(("billing", str(number)), None)

    assert len(locks._seen) == 0


def test_number_of_observed_intents_is_bounded() -> None:
    locks = TokenLocks(Clock())
    for number in range(10_500):
        locks.observe(("billing", str(number)), INTENT)

    assert len(locks._seen) == 10_000


def test_intents_of_one_namespace_displace_no_other() -> None:
    clock = Clock()
    locks = TokenLocks(clock)
    locks.observe(("other", "license-keyturn"), INTENT)
    clock.seconds = 10
    for number in range(10_500):
        locks.observe(("billing", str(number)), INTENT)

    assert locks.observe(("other", "license-keyturn"), INTENT) == 10


def test_number_of_remembered_token_secrets_is_bounded() -> None:
    locks, request = TokenLocks(Clock()), rotating()
    consumption = request.spec.consumption
    assert consumption
    family = TokenFamily(source_id=consumption.source_id, initial_tokens=("1",), live="1")
    locks.observe_family(request.namespace, "other", family)
    for number in range(20_500):
        locks.observe_family("large", str(number), family)

    assert len(locks._source_ids) == 20_000
    assert locks.source_ids(request.namespace) == {"other": consumption.source_id}


def test_source_is_searched_again_if_a_token_secret_of_it_is_forgotten() -> None:
    locks = TokenLocks(Clock())
    locks.searched.put(("large", "first"), None)
    for number in range(20_001):
        family = TokenFamily(source_id=f"{number}" if number else "first", initial_tokens=("1",), live="1")
        locks.observe_family("large", str(number), family)

    assert ("large", "first") not in locks.searched
