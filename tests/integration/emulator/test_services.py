from tests.support.emulator.app import SERVICES
from tests.support.emulator.client import endpoints


def test_setting_directs_every_service_to_the_emulator() -> None:
    names = {service.name for service in SERVICES}

    assert endpoints("http://localhost").keys() == names, "add the service to _SERVICES in emulator/client.py"
