"""Pods with the injection annotation. Python and the API server must change them and warn about them identically."""

from typing import Any, NamedTuple

from keyturn.core.pods.manifest import INJECT

Body = dict[str, Any]


class Case(NamedTuple):
    """A pod, the containers that use the sidecar (none if the pod is not changed), and the messages of the findings."""

    pod: Body
    served: tuple[str, ...] = ("app",)
    messages: tuple[str, ...] = ()


def container(name: str = "app", *names: str, **more: Any) -> Body:
    env = {"env": [{"name": each, "value": "x"} for each in names]} if names else {}
    return {"name": name, "image": "app", **env, **more}


def pod(*containers: Body, inject: Any = "acme-billing", **spec: Any) -> Body:
    """A pod with the annotation, unless `inject` is None."""
    annotations = {"annotations": {INJECT: inject}} if inject is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", **annotations},
        "spec": {"containers": list(containers) or [container()], **spec},
    }


def own_credentials(name: str, variable: str) -> str:
    return f"container {name} has {variable}, which SDKs prefer to the sidecar: the container keeps its own credentials"


_WAIT = container("wait")
_WAIT_AS_USER = container("wait", securityContext={"runAsUser": 8})
_NATIVE = container("proxy", restartPolicy="Always")
_OWN_SIDECAR = container("keyturn", restartPolicy="Always")
_VOLUMES: Body = {"volumes": [{"name": "data", "emptyDir": {}}]}
_MOUNTED = container(volumeMounts=[{"name": "data", "mountPath": "/data"}])


def _proxied(name: str, **no_proxy: str) -> Body:
    """A pod with an HTTP proxy in this variable."""
    variables = {name: "http://proxy.example:3128", **no_proxy}
    return pod(container(env=[{"name": each, "value": value} for each, value in variables.items()]))


def _proxy_message(name: str) -> str:
    return (
        f"container app has {name} without 127.0.0.1 in NO_PROXY: some SDKs send requests for the sidecar to the proxy"
    )


_PROXY_FROM = {"name": "HTTP_PROXY", "valueFrom": {"configMapKeyRef": {"name": "red", "key": "proxy"}}}
_FROM: Body = {"envFrom": [{"secretRef": {"name": "blue"}}, {"configMapRef": {"name": "red"}}]}
_FROM_MESSAGE = ": SDKs prefer AWS_ACCESS_KEY_ID or AWS_PROFILE among them to the sidecar"

_NAME_MESSAGE = "keyturn.dev/inject must be the name of a Secret: no sidecar was added"
# A container with one of these is left alone.
_CREDENTIAL_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
)

CASES: dict[str, Case] = {
    **{
        f"its own {variable}": Case(pod(container("app", "A", variable)), (), (own_credentials("app", variable),))
        for variable in _CREDENTIAL_VARIABLES
    },
    **{
        f"not a Secret name: {name[:12]!r}": Case(pod(inject=name), (), (_NAME_MESSAGE,))
        for name in ("", "Acme/Billing", "a" * 254, "acme\n")
    },
    "one container": Case(pod()),
    "several containers": Case(pod(container(), container("other", "A", "B")), ("app", "other")),
    "init containers": Case(pod(initContainers=[_WAIT, container("load", "A")]), ("wait", "load", "app")),
    "another native sidecar": Case(pod(initContainers=[_NATIVE]), ("proxy", "app")),
    "volumes": Case(pod(_MOUNTED, **_VOLUMES)),
    "empty lists": Case(
        pod(container(env=[], volumeMounts=[], envFrom=[]), initContainers=[], volumes=[], securityContext={})
    ),
    "null lists": Case(
        pod(container(env=None, volumeMounts=None), initContainers=None, volumes=None, securityContext=None)
    ),
    "a user for all containers": Case(
        pod(_WAIT_AS_USER, container("app"), securityContext={"runAsUser": 8}), ("wait", "app")
    ),
    "a user for all containers, and a shared process namespace": Case(
        pod(shareProcessNamespace=True, securityContext={"runAsUser": 8})
    ),
    "a user for all containers, and the host's processes": Case(pod(hostPID=True, securityContext={"runAsUser": 8})),
    "its own fsGroup": Case(pod(securityContext={"fsGroup": 7, "runAsUser": 8})),
    "fsGroup 0": Case(pod(securityContext={"fsGroup": 0})),
    "a container that runs as root": Case(
        pod(container(securityContext={"runAsUser": 0}), securityContext={"runAsUser": 8})
    ),
    "two users": Case(pod(_WAIT_AS_USER, container()), ("wait", "app")),
    "a variable with valueFrom": Case(
        pod(container(env=[{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]))
    ),
    "a Secret name with dots": Case(pod(inject="acme.billing-1")),
    "no annotation": Case(pod(inject=None), ()),
    "access keys from a Secret": Case(
        pod(
            container(env=[{"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "blue", "key": "id"}}}])
        ),
        (),
        (own_credentials("app", "AWS_ACCESS_KEY_ID"),),
    ),
    "EKS Pod Identity": Case(
        pod(container("app", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
        (),
        (
            own_credentials("app", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            own_credentials("app", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ),
    ),
    "one of two containers has its own credentials": Case(
        pod(container(), container("agent", "AWS_PROFILE", "AWS_ACCESS_KEY_ID")),
        ("app",),
        (own_credentials("agent", "AWS_PROFILE"), own_credentials("agent", "AWS_ACCESS_KEY_ID")),
    ),
    "an init container has its own credentials": Case(
        pod(container(), initContainers=[container("load", "AWS_ACCESS_KEY_ID"), _WAIT]),
        ("wait", "app"),
        (own_credentials("load", "AWS_ACCESS_KEY_ID"),),
    ),
    "a config file": Case(
        pod(container("app", "AWS_CONFIG_FILE")),
        ("app",),
        ("container app has AWS_CONFIG_FILE: SDKs prefer credentials in that file to the sidecar",),
    ),
    "envFrom": Case(
        pod(container(**_FROM)),
        ("app",),
        (
            f"container app takes variables from Secret blue{_FROM_MESSAGE}",
            f"container app takes variables from ConfigMap red{_FROM_MESSAGE}",
        ),
    ),
    "envFrom with a prefix": Case(
        pod(container(envFrom=[{"prefix": "APP_", **source} for source in _FROM["envFrom"]])), ("app",)
    ),
    "envFrom with a prefix of AWS": Case(
        pod(container(envFrom=[{"prefix": "AWS_", **_FROM["envFrom"][0]}])),
        ("app",),
        (f"container app takes variables from Secret blue{_FROM_MESSAGE}",),
    ),
    **{
        f"{name} alone": Case(_proxied(name), ("app",), (_proxy_message(name),))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    },
    **{
        f"HTTP_PROXY, and NO_PROXY {hosts!r}": Case(
            _proxied("HTTP_PROXY", NO_PROXY=hosts), ("app",), (_proxy_message("HTTP_PROXY"),)
        )
        for hosts in ("", "localhost", ".svc,10.0.0.0/8", "127.0.0.10", "::/0")
    },
    **{
        f"HTTP_PROXY, and no_proxy {hosts!r}": Case(_proxied("HTTP_PROXY", no_proxy=hosts))
        for hosts in ("127.0.0.1", "localhost, 127.0.0.1", "*", "127.0.0.0/8", ".svc,127.0.0.1/8", "$(HOSTS)")
    },
    "HTTPS_PROXY, which the endpoint does not need": Case(_proxied("HTTPS_PROXY")),
    "an empty proxy": Case(pod(container(env=[{"name": "HTTP_PROXY", "value": ""}, {"name": "ALL_PROXY"}]))),
    "a proxy from a ConfigMap": Case(pod(container(env=[_PROXY_FROM])), ("app",), (_proxy_message("HTTP_PROXY"),)),
    "a proxy and its exceptions from a ConfigMap": Case(
        pod(container(env=[_PROXY_FROM, {**_PROXY_FROM, "name": "NO_PROXY"}]))
    ),
    "a proxy in a container with its own credentials": Case(
        pod(container(), container("agent", "HTTP_PROXY", "AWS_PROFILE")),
        ("app",),
        (own_credentials("agent", "AWS_PROFILE"),),
    ),
    "two proxies in one container, and another container": Case(
        pod(container("app", "http_proxy", "ALL_PROXY"), container("agent", "no_proxy")),
        ("app", "agent"),
        (_proxy_message("http_proxy"),),
    ),
    "hostNetwork": Case(
        pod(hostNetwork=True),
        ("app",),
        ("with hostNetwork the sidecar uses the node's ports: two such pods cannot run on one node",),
    ),
    "the sidecar is already present": Case(pod(initContainers=[_OWN_SIDECAR]), ()),
    "another container with the sidecar's name": Case(
        pod(container("keyturn")),
        (),
        ("a container named keyturn exists that is not the sidecar: no sidecar was added",),
    ),
    "a Secret name of 253 characters": Case(pod(inject="a" * 253)),
}
