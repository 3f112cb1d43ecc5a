"""The configuration of a node's programs."""

import json
from pathlib import Path

from tests.support.controlplane import binary
from tests.support.controlplane.configuration import Configuration
from tests.support.node.machine import packages

NAME = "node"
ADDRESS, NETWORK, GATEWAY = "192.168.77.1", "192.168.77.1/24", "192.168.77.254"
PODS, SERVICES, API_SERVER = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.1"
PAUSE = "localhost/keyturn-pause:node"
# In the node's own /run, which ends with the node.
STATE = Path("/run/keyturn")
IMAGES, SOCKET = STATE / "containerd", STATE / "containerd.sock"
# Settings that a kubelet would change; it finds these values and leaves those of the machine alone.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def control_plane_flags(directory: Path) -> dict[str, list[str]]:
    """Return the flags in which the control plane in `directory` differs from one without pods."""
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


def containerd_config(root: Path, socket: Path) -> str:
    """Return the configuration of containerd (TOML, version 2)."""
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


def network_config() -> str:
    """Return the configuration of the pod network (CNI)."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})


def kubelet_config() -> str:
    """Return the KubeletConfiguration. Its port needs no authentication: only the node's network reaches it."""
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
            # Without systemd, and possibly in a container: one flat cgroup per container, no change of OOM scores.
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
                **dict.fromkeys(("nodefs.available", "imagefs.available", "nodefs.inodesFree"), "0%"),
            },
        }
    )


def commands(kubeconfig: Path) -> dict[str, list[str]]:
    """Return the commands of the node's programs, in the order in which they depend on each other."""
    cluster = f"--kubeconfig={kubeconfig}"
    return {
        "kube-scheduler": [str(binary("kube-scheduler")), cluster, "--leader-elect=false", "--secure-port=0"],
        "kube-proxy": [
            str(binary("kube-proxy")),
            cluster,
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={PODS}",
            # The kernel lets only the initial network namespace set these.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
        "containerd": [str(packages() / "usr/bin/containerd"), f"--config={STATE}/containerd.toml"],
        "kubelet": [
            str(binary("kubelet")),
            cluster,
            f"--config={STATE}/kubelet.json",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={STATE}/kubelet",
            f"--cert-dir={STATE}/certificates",
        ],
    }
