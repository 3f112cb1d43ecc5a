"""AWS SDKs with every provider of credentials in a pod, through ten renewals: no call fails or uses an old key."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support import npm
from tests.support.cluster.namespace import token_request
from tests.support.controlplane import die_with_parent
from tests.support.emulator.client import Emulator, endpoints, running_emulator
from tests.support.processes import ROOT, RestartableProcess, http_get, until
from tests.support.sdk import go_caller

JAVASCRIPT = ROOT / "tests" / "support" / "sdk" / "javascript"
LISTENING = re.compile(r"ing credentials on (\S+:\d+)")
SESSION_SECONDS = 12  # renewed after 7 to 8
KEYS = 10
# So close to the expiry boto3 refreshes before each call, JavaScript during a call: its key is 1 or 2 s old.
OLD_SECONDS = 4
# Go refreshes from the endpoint like boto3, but uses credentials of a process until they expire: up to 6 s more.
OLD_SECONDS_OF_A_PROCESS = {"Go": 8}


@dataclass
class Pod:
    """A folder with a mounted Secret, the sidecars that serve it, and when each access key appeared in it."""

    folder: Path
    keys: dict[str, float] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    def record_key(self) -> None:
        try:
            credentials = json.loads((self.secret / "credentials.json").read_text())
        except FileNotFoundError:
            return
        self.keys.setdefault(credentials["AccessKeyId"], time.monotonic())

    def replaced_at(self, key: str) -> float:
        """Return when the next access key appeared; infinity if none has."""
        order = list(self.keys)
        later = order[order.index(key) + 1 :]
        return self.keys[later[0]] if later else float("inf")

    def endpoint(self, sidecar: str) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.urls[sidecar],
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(self.folder / f"{sidecar}-token"),
        }

    def credential_process(self, command: str) -> dict[str, str]:
        path = self.folder / f"config-{len(list(self.folder.glob('config-*')))}"
        path.write_text(f"[default]\ncredential_process = {command}\n")
        return {"AWS_CONFIG_FILE": str(path)}

    def start_sidecar(self, name: str, stack: ExitStack, *arguments: str) -> None:
        flags = ("--listen=127.0.0.1:0", "--http-bind-address=127.0.0.1:0")
        command = [sys.executable, "-m", "keyturn", *arguments, *flags]
        sidecar = RestartableProcess(
            [*command, f"--authorization-file={self.folder}/{name}-token"], self.folder / f"{name}.log"
        )
        self.urls[name] = f"http://{sidecar.launch(LISTENING)}/"
        stack.callback(sidecar.stop)


# For each credential provider, the environment that a manifest would set.
PROVIDERS: Mapping[str, Callable[[Pod], dict[str, str]]] = {
    "credential_process = cat": lambda pod: pod.credential_process(f"cat {pod.secret}/credentials.json"),
    "the format awsConfig": lambda pod: {"AWS_CONFIG_FILE": f"{pod.secret}/config"},
    "keyturn credential-process": lambda pod: pod.credential_process(
        f"{sys.executable} -m keyturn credential-process --secret-dir={pod.secret}"
    ),
    "endpoint of the sidecar": lambda pod: pod.endpoint("sidecar"),
    "endpoint of keyturn run": lambda pod: pod.endpoint("run"),
}


@dataclass(frozen=True)
class Sdk:
    """The program that calls STS with an SDK; `missing` is the reason why it cannot run on this machine."""

    command: Callable[[], list[str]]
    stdin: Path = Path(os.devnull)
    folder: Callable[[], Path] = lambda: ROOT
    missing: Callable[[], str] = lambda: ""


SDKS: Mapping[str, Sdk] = {
    "boto3": Sdk(lambda: [sys.executable, "-m", "tests.support.sdk.caller"]),
    # Node resolves packages from the working directory only for a program on stdin.
    "JavaScript": Sdk(
        lambda: ["node", "--input-type=module"],
        JAVASCRIPT / "caller.mjs",
        lambda: npm.installed("sdk-javascript", JAVASCRIPT),
        npm.missing,
    ),
    "Go": Sdk(lambda: [str(go_caller.go_caller())], missing=go_caller.missing),
}


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    with running_emulator(session_seconds=SESSION_SECONDS) as shared_emulator:
        yield shared_emulator


@pytest.fixture(scope="module")
def pod(aws: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """A folder that `keyturn run` renews as the kubelet updates a mounted Secret, and a sidecar that serves it."""
    pod = Pod(tmp_path_factory.mktemp("pod"))
    source = pod.folder / "sources" / "license"
    source.mkdir(parents=True)
    (source / "license_token").write_text(aws.refresh_token())
    target = {"formats": [{"credentialProcess": {}}, {"awsConfig": {"mountPath": str(pod.secret)}}]}
    (pod.folder / "request.yaml").write_text(yaml.safe_dump(token_request(target=target)))
    settings = {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"minIntervalSeconds": 1}}
    (pod.folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    paths = {"filename": "request.yaml", "sources-dir": "sources", "config": "settings.yaml", "output-dir": "secret"}
    with ExitStack() as stack:
        pod.start_sidecar("run", stack, "run", *(f"--{name}={pod.folder / it}" for name, it in paths.items()))
        until((pod.secret / "credentials.json").exists)
        pod.start_sidecar("sidecar", stack, "sidecar", f"--secret-dir={pod.secret}")
        yield pod


@dataclass
class Call:
    """A call of STS: its time, and its access key or its error."""

    at: float
    key: str = ""
    error: str = ""


@pytest.fixture(scope="module")
def calls(aws: Emulator, pod: Pod) -> dict[tuple[str, str], list[Call]]:
    """The calls of each SDK with each provider, all at the same time, until each has used KEYS access keys."""
    # Built before any is started: the times of calls during a build would not be recorded.
    commands = {name: (sdk.command(), sdk.folder()) for name, sdk in SDKS.items() if not sdk.missing()}
    calls: dict[tuple[str, str], list[Call]] = {(sdk, provider): [] for sdk in commands for provider in PROVIDERS}
    with ExitStack() as stack:
        logs = {it: start_caller(stack, aws, pod, it, *commands[it[0]]) for it in calls}
        # A caller that fails or keeps using an old key must not make the others wait forever.
        while len(pod.keys) <= KEYS + 3 and any(len({call.key for call in it}) < KEYS for it in calls.values()):
            pod.record_key()
            for it, log in logs.items():
                calls[it] += [Call(time.monotonic(), **json.loads(line)) for line in log]
            time.sleep(0.02)
    return calls


def start_caller(
    stack: ExitStack, aws: Emulator, pod: Pod, caller: tuple[str, str], command: list[str], folder: Path
) -> Iterator[str]:
    """Start an SDK's program with a credential provider, and return the lines of its output that were not read yet."""
    sdk, provider = caller
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    env |= {"HOME": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": aws.url}
    env |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"} | PROVIDERS[provider](pod)
    log = pod.folder / f"{sdk} {provider}.log"
    with log.open("wb") as output, SDKS[sdk].stdin.open() as program:
        process = subprocess.Popen(die_with_parent(command), cwd=folder, env=env, stdin=program, stdout=output)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return stack.enter_context(log.open())


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("sdk", SDKS)
def test_no_call_fails_or_uses_an_old_key(
    pod: Pod, calls: dict[tuple[str, str], list[Call]], sdk: str, provider: str
) -> None:
    if reason := SDKS[sdk].missing():
        pytest.skip(reason)
    old_seconds = OLD_SECONDS if "endpoint" in provider else OLD_SECONDS_OF_A_PROCESS.get(sdk, OLD_SECONDS)

    assert [call.error for call in calls[sdk, provider] if call.error] == []
    assert len({call.key for call in calls[sdk, provider]}) >= KEYS
    assert [call for call in calls[sdk, provider] if call.at > pod.replaced_at(call.key) + old_seconds] == []


def test_endpoint_refuses_another_authorization_token(pod: Pod) -> None:
    assert [http_get(url, Authorization="another")[0] for url in pod.urls.values()] == [401, 401]
