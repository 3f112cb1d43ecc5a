"""A tenant's forged Secret stops nobody else."""

import hashlib
import json

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator


def test_marks_nested_too_deeply_do_not_stop_the_operator(
    operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    text = '{"x":' + "[" * 50_000 + "]" * 50_000 + "}"
    marks = f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'
    about = {
        "name": "forged",
        "labels": {"app.kubernetes.io/managed-by": "keyturn"},
        "annotations": {"keyturn.dev/marks": marks},
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(secret))

    namespace.issued(aws)

    assert operator.process.poll() is None
