"""A real Keycloak on loopback, with realms, clients and users for a test. It starts in half a minute to two minutes."""

from tests.support.keycloak.distribution import missing
from tests.support.keycloak.realm import Realm
from tests.support.keycloak.server import Keycloak, running_keycloak

__all__ = ["Keycloak", "Realm", "missing", "running_keycloak"]
