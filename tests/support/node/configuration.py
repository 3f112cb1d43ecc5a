"""What the programs of a node are told."""

import json
from pathlib import Path

from tests.support.controlplane import binary
from tests.support.controlplane.configuration import Configuration
from tests.support.node.machine import packages

NAME = "node"
ADDRESS, NETWORK, GATEWAY = "192.168.77.1", "192.168.77.1/24", "192.168.77.254"
PODS, SERVICES, API_SERVER = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.1"
PAUSE = "localhost/keyturn-pause:node"
# In the node's own /run: it is gone with the node.
STATE = Path("/run/keyturn")
IMAGES, SOCKET = STATE / "containerd", STATE / "containerd.sock"
# What a kubelet sets, as values that it finds set already: it leaves the machine's own alone.
KERNEL = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def control_plane(directory: Path) -> dict[str, list[str]]:
    """List what replaces the flags of a control plane without pods, whose files are in `directory`."""
    ca_file = Configuration(directory).ca_file
    return {
        "kube-apiserver": [
            "--endpoint-reconciler-type=lease",
            f"--service-cluster-ip-range={SERVICES}",
            "--disable-admission-plugins=",
            "--kubelet-preferred-address-types=InternalIP",
            f"--tls-cert-file={STATE}/serving.crt",
            f"--tls-private-key-file={STATE}/serving.key",
        ],
        "kube-controller-manager": ["--controllers=*", f"--root-ca-file={ca_file}"],
    }


def containerd(root: Path, socket: Path) -> str:
    """Write the configuration of containerd (TOML, version 2)."""
    return f"""\
version = 2
root = "{root}"
state = "{socket.with_suffix(".state")}"
grpc = {{address = "{socket}"}}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  cni = {{bin_dir = "{packages()}/usr/lib/cni", conf_dir = "{STATE}/cni"}}
"""


def network() -> str:
    """Write the configuration of the pods' network (CNI)."""
    routes = {"subnet": PODS}, {"dst": "0.0.0.0/0"}
    addresses = {"type": "host-local", "ranges": [[routes[0]]], "routes": [routes[1]]}
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})


def kubelet() -> str:
    """Write a KubeletConfiguration. Its port is open to all, in a network where all is ours."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "resolvConf": str(STATE / "resolv.conf"),
            "podLogsDir": str(STATE / "logs"),
            "syncFrequency": "1s",
            # Without systemd and in containers: no cgroups but a flat one per container, no change of scores.
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "oomScoreAdj": 0,
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "0%",
                "imagefs.available": "0%",
                "nodefs.inodesFree": "0%",
            },
        }
    )


def commands(kubeconfig: Path) -> dict[str, list[str]]:
    """List the programs of a node beside its control plane, in the order in which they need each other."""
    cluster = f"--kubeconfig={kubeconfig}"
    return {
        "kube-scheduler": [str(binary("kube-scheduler")), cluster, "--leader-elect=false", "--secure-port=0"],
        "kube-proxy": [
            str(binary("kube-proxy")),
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={PODS}",
            # The kernel lets only the first network namespace set these.
            *(f"--conntrack-{what}=0" for what in ("max-per-core", "tcp-timeout-established")),
            "--conntrack-tcp-timeout-close-wait=0",
        ],
        "containerd": [str(packages() / "usr/bin/containerd"), f"--config={STATE}/containerd.toml"],
        "kubelet": [
            str(binary("kubelet")),
            f"--config={STATE}/kubelet.json",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={STATE}/kubelet",
            f"--cert-dir={STATE}/certificates",
        ],
    }
