"""Creates what the examples need, so that each becomes Ready after `kubectl apply`."""

from tests.support import examples
from tests.support.examples import EXAMPLES, ExampleSetup

_SOURCE_LABEL = {"keyturn.dev/source": "true"}


class Preparation:
    """Creates the Secrets of each example once, when it is applied: later, a deleted Secret stays deleted."""

    def __init__(self, setup: ExampleSetup) -> None:
        self._setup = setup
        self._pending = {body["metadata"]["name"]: path for path in EXAMPLES for body in examples.requests(path)}
        for path in self._pending.values():
            setup.create_roles(path)
            if not setup.reads_secrets(path):
                setup.prepare(path)

    def create_secrets(self) -> None:
        """Create the Secrets of the examples that were applied since the last call, unless they exist."""
        namespace = self._setup.namespace
        names = namespace.kubectl("get", "treq", "--output=jsonpath={.items[*].metadata.name}", check=False).split()
        for name in self._pending.keys() & set(names):
            for secret, data in self._setup.prepare(self._pending.pop(name)).items():
                if not namespace.get("secret", secret):
                    namespace.put_secret(secret, data, labels=_SOURCE_LABEL)
