"""python -m tools.playground [FILE]: run a playground until Ctrl-C; FILE receives the environment of a shell in it."""

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from tests.support import examples
from tests.support.cluster.namespace import Namespace
from tests.support.controlplane import ControlPlane, binary
from tests.support.controlplane.configuration import free_ports
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.examples import ExampleSetup
from tests.support.prometheus.binaries import prometheus_binary
from tests.support.proxy import proxy_in_thread
from tests.support.signals import interrupt_on_signals
from tools.demo import control_plane, print_step
from tools.playground import sign_in
from tools.playground.files import owned_file
from tools.playground.monitoring import monitored
from tools.playground.preparation import Preparation
from tools.playground.release import Follower, following

_ENVIRONMENT = Path("build") / "playground.env"
_NAMESPACE = "default"


def main(environment: Path) -> NoReturn:
    """Start everything, print how to use it, and follow what happens in the cluster until Ctrl-C."""
    interrupt_on_signals()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-playground-")))
        address = f"127.0.0.1:{free_ports()[0]}"
        plane = stack.enter_context(control_plane(directory))
        sessions = int(os.environ.get("SESSION_SECONDS", "60"))
        print_step(f"Starting an AWS emulator with sessions of {sessions} s")
        aliases = ",".join(examples.ISSUER_ALIASES)
        aws = stack.enter_context(running_emulator(session_seconds=sessions, issuer_aliases=aliases))
        provider = stack.enter_context(sign_in.openid_provider())
        variables = stack.enter_context(monitored(directory, address)) | _variables(plane, aws)
        proxy = stack.enter_context(proxy_in_thread(dict.fromkeys(examples.ISSUER_HOSTS, aws.issuer_address)))
        follower = Follower(plane, aws, directory, address, examples.settings(proxy))
        stack.enter_context(following(follower))
        preparation = Preparation(ExampleSetup(Namespace(_NAMESPACE, plane), aws))
        stack.enter_context(owned_file(environment, _exports(variables)))
        print_step("Addresses of the AWS emulator and of its OAuth issuer")
        print(aws.url, aws.issuer_address, sep="\n")
        if provider:
            manifest = environment.with_suffix(".sign-in.yaml")
            stack.enter_context(owned_file(manifest, sign_in.manifest(provider)))
            print_step(f"{provider.url} signs in any name with any password. After the installation:")
            print(f"kubectl apply -f {manifest}\nkubectl keyturn login {sign_in.NAME}")
        print_step("Ready until Ctrl-C. In another shell:")
        print(f". {environment}", flush=True)
        while True:
            follower.follow()
            preparation.create_secrets()
            time.sleep(1)


def _variables(plane: ControlPlane, aws: Emulator) -> dict[str, str]:
    # kubectl caches discovery by address: on a reused port it would return another cluster's resources.
    return {
        "KUBECONFIG": str(plane.kubeconfig),
        "KUBECACHEDIR": str(plane.kubeconfig.parent / "cache"),
        "LICENSE_TOKEN": aws.refresh_token(),
    }


def _exports(variables: Mapping[str, str]) -> str:
    programs = [binary("helm"), binary("kubectl"), Path(sys.executable)]
    programs += [prometheus_binary("promtool")] if "PROMETHEUS" in variables else []
    path = os.pathsep.join(dict.fromkeys(str(program.parent) for program in programs))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join([*lines, f'export PATH={shlex.quote(path)}:"$PATH"', ""])


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if sys.argv[1:] else _ENVIRONMENT)
    except KeyboardInterrupt:
        print()
