"""Pods that ask for the sidecar: whom it serves, and what users are told. Python and the API server must agree."""

from typing import Any, NamedTuple

from keyturn.core.pods.manifest import INJECT

Body = dict[str, Any]


class Case(NamedTuple):
    """A pod, the names of the containers that are served (none: it stays as it is), and the sentences."""

    pod: Body
    served: tuple[str, ...] = ("app",)
    says: tuple[str, ...] = ()


def container(name: str = "app", *names: str, **more: Any) -> Body:
    """Make a container with these variables."""
    env = {"env": [{"name": each, "value": "x"} for each in names]} if names else {}
    return {"name": name, "image": "app", **env, **more}


def pod(*containers: Body, inject: Any = "acme-billing", **spec: Any) -> Body:
    """Make a pod that asks for the sidecar."""
    annotations = {"annotations": {INJECT: inject}} if inject is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", **annotations},
        "spec": {"containers": list(containers) or [container()], **spec},
    }


def keeps(name: str, variable: str) -> str:
    return f"container {name} has {variable}, which SDKs read instead of the sidecar: it keeps its own"


_WAIT = container("wait")
_NATIVE = container("proxy", restartPolicy="Always")
_OWN_SIDECAR = container("keyturn", restartPolicy="Always")
_VOLUMES: Body = {"volumes": [{"name": "data", "emptyDir": {}}]}
_MOUNTED = container(volumeMounts=[{"name": "data", "mountPath": "/data"}])
_IRSA = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
_FROM: Body = {"envFrom": [{"secretRef": {"name": "blue"}}, {"configMapRef": {"name": "red"}}]}
_FROM_SAYS = ": SDKs read AWS_ACCESS_KEY_ID or AWS_PROFILE among them instead of the sidecar"

CASES: dict[str, Case] = {
    "one container": Case(pod()),
    "several containers": Case(pod(container(), container("other", "A", "B")), ("app", "other")),
    "init containers": Case(pod(initContainers=[_WAIT, container("load", "A")]), ("wait", "load", "app")),
    "a native sidecar of somebody else": Case(pod(initContainers=[_NATIVE]), ("proxy", "app")),
    "volumes": Case(pod(_MOUNTED, **_VOLUMES)),
    "lists that are empty": Case(
        pod(container(env=[], volumeMounts=[], envFrom=[]), initContainers=[], volumes=[], securityContext={})
    ),
    "lists that are null": Case(
        pod(container(env=None, volumeMounts=None), initContainers=None, volumes=None, securityContext=None)
    ),
    "a group of its own": Case(pod(securityContext={"fsGroup": 7, "runAsUser": 8})),
    "the group of root": Case(pod(securityContext={"fsGroup": 0})),
    "a policy for its group": Case(pod(securityContext={"fsGroupChangePolicy": "Always"})),
    "a variable from elsewhere": Case(
        pod(container(env=[{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]))
    ),
    "a name with dots": Case(pod(inject="acme.billing-1")),
    "no annotation": Case(pod(inject=None), ()),
    "keys of its own": Case(
        pod(container("app", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        (),
        (keeps("app", "AWS_ACCESS_KEY_ID"),),
    ),
    "keys from a Secret": Case(
        pod(
            container(env=[{"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "blue", "key": "id"}}}])
        ),
        (),
        (keeps("app", "AWS_ACCESS_KEY_ID"),),
    ),
    "a profile": Case(pod(container("app", "AWS_PROFILE")), (), (keeps("app", "AWS_PROFILE"),)),
    "the old name of a profile": Case(
        pod(container("app", "AWS_DEFAULT_PROFILE")), (), (keeps("app", "AWS_DEFAULT_PROFILE"),)
    ),
    "a credentials file": Case(
        pod(container("app", "AWS_SHARED_CREDENTIALS_FILE")), (), (keeps("app", "AWS_SHARED_CREDENTIALS_FILE"),)
    ),
    "a role for the service account": Case(pod(container("app", *_IRSA)), (), (keeps("app", _IRSA[1]),)),
    "an ECS task's endpoint": Case(
        pod(container("app", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")),
        (),
        (keeps("app", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),),
    ),
    "a token in the environment": Case(
        pod(container("app", "AWS_CONTAINER_AUTHORIZATION_TOKEN")),
        (),
        (keeps("app", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),),
    ),
    "EKS Pod Identity": Case(
        pod(container("app", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
        (),
        (
            keeps("app", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            keeps("app", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ),
    ),
    "one of two has its own": Case(
        pod(container(), container("agent", "AWS_PROFILE", "AWS_ACCESS_KEY_ID")),
        ("app",),
        (keeps("agent", "AWS_PROFILE"), keeps("agent", "AWS_ACCESS_KEY_ID")),
    ),
    "an init container has its own": Case(
        pod(container(), initContainers=[container("load", "AWS_ACCESS_KEY_ID"), _WAIT]),
        ("wait", "app"),
        (keeps("load", "AWS_ACCESS_KEY_ID"),),
    ),
    "a config file": Case(
        pod(container("app", "AWS_CONFIG_FILE")),
        ("app",),
        ("container app has AWS_CONFIG_FILE: SDKs read credentials in it instead of the sidecar",),
    ),
    "variables that cannot be seen": Case(
        pod(container(**_FROM)),
        ("app",),
        (
            f"container app takes variables from Secret blue{_FROM_SAYS}",
            f"container app takes variables from ConfigMap red{_FROM_SAYS}",
        ),
    ),
    "the node's network": Case(
        pod(hostNetwork=True),
        ("app",),
        ("the ports of the sidecar are the node's: two such pods on it are in each other's way",),
    ),
    "its own sidecar already": Case(pod(initContainers=[_OWN_SIDECAR]), ()),
    "a container of the sidecar's name": Case(
        pod(container("keyturn")), (), ("a container named keyturn is not the sidecar: none was added",)
    ),
    "an empty name": Case(
        pod(inject=""), (), ("keyturn.dev/inject must be the name of a Secret: no sidecar was added",)
    ),
    "no name of a Secret": Case(
        pod(inject="Acme/Billing"), (), ("keyturn.dev/inject must be the name of a Secret: no sidecar was added",)
    ),
    "too long a name": Case(
        pod(inject="a" * 254), (), ("keyturn.dev/inject must be the name of a Secret: no sidecar was added",)
    ),
    "the longest name": Case(pod(inject="a" * 253)),
    "a name with a newline": Case(
        pod(inject="acme\n"), (), ("keyturn.dev/inject must be the name of a Secret: no sidecar was added",)
    ),
}
