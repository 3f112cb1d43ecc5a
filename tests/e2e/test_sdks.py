"""Real SDKs on every way to a pod's credentials, through ten renewals: no call fails, none uses an old key."""

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
from typing import Any

import pytest
import yaml

from tests.support import npm
from tests.support.controlplane import die_with_parent
from tests.support.emulator.client import Emulator, endpoints, running_emulator
from tests.support.emulator.constants import ROLE_ARN
from tests.support.processes import Running, http_get, until
from tests.support.sdk import golang

ROOT = Path(__file__).parents[2]
JAVASCRIPT = Path(__file__).parent / "javascript"
GIVING = re.compile(r"giving credentials on (\S+:\d+)")
SESSION_SECONDS = 12  # renewed after 7 to 8
RENEWALS = 10
# With so little life left boto3 asks anew before each call, and JavaScript during each: a second old, or two.
OLD_SECONDS = 4
# Go asks the endpoint as boto3 does. What a process gave it, it keeps to the end: up to 6 seconds too long.
OLD_SECONDS_OF_A_PROCESS = {"Go": 8}


@dataclass
class Pod:
    """What two sidecars hold and write, and when each key came to be there."""

    folder: Path
    keys: dict[str, float] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    def look(self) -> None:
        """Take note of the key that is there now."""
        try:
            held = json.loads((self.secret / "credentials.json").read_text())
        except FileNotFoundError:
            return
        self.keys.setdefault(held["AccessKeyId"], time.monotonic())

    def replaced(self, key: str) -> float:
        """When another one took this key's place; infinite while it has it."""
        order = list(self.keys)
        following = order[order.index(key) + 1 :]
        return self.keys[following[0]] if following else float("inf")

    def endpoint(self, of: str) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.urls[of],
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(self.folder / f"{of}-token"),
        }

    def config(self, command: str) -> dict[str, str]:
        name = self.folder / f"config-{len(list(self.folder.glob('config-*')))}"
        name.write_text(f"[default]\ncredential_process = {command}\n")
        return {"AWS_CONFIG_FILE": str(name)}


def keyturn(*arguments: str) -> str:
    return f"{sys.executable} -m keyturn {' '.join(arguments)}"


# What a manifest sets in a pod; the values are found when the pod is there.
WAYS: Mapping[str, Callable[[Pod], dict[str, str]]] = {
    "credential_process = cat": lambda pod: pod.config(f"cat {pod.secret}/credentials.json"),
    "the format awsConfig": lambda pod: {"AWS_CONFIG_FILE": f"{pod.secret}/config"},
    "keyturn credential-process": lambda pod: pod.config(keyturn("credential-process", f"--secret={pod.secret}")),
    "the endpoint of the reader": lambda pod: pod.endpoint("reader"),
    "the endpoint of keyturn run": lambda pod: pod.endpoint("run"),
}
Program = tuple[list[str], Path | None, Path]  # the command, its stdin, its working directory
SDKS: Mapping[str, Callable[[], Program]] = {
    "boto3": lambda: ([sys.executable, "-m", "tests.support.sdk.caller"], None, ROOT),
    # From stdin node finds the packages of its working directory, which a file here would not.
    "JavaScript": lambda: (
        ["node", "--input-type=module"],
        JAVASCRIPT / "caller.mjs",
        npm.installed("sdk-javascript", JAVASCRIPT),
    ),
    "Go": lambda: ([str(golang.caller())], None, ROOT),
}
MISSING: Mapping[str, Callable[[], str]] = {"JavaScript": npm.missing, "Go": golang.missing}


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    with running_emulator(session_seconds=SESSION_SECONDS) as emulator:
        yield emulator


def manifest(pod: Pod) -> dict[str, Any]:
    return {
        "apiVersion": "keyturn.dev/v1alpha1",
        "kind": "TokenRequest",
        "metadata": {"name": "acme"},
        "spec": {
            "source": {"token": {"secretKeyRef": {"name": "acme-license", "key": "license_token"}}},
            "region": "us-east-1",
            "exchanges": [
                {"licenseManagerGetAccessToken": {}},
                {"assumeRoleWithWebIdentity": {"roleArn": ROLE_ARN}},
            ],
            "target": {"formats": [{"credentialProcess": {}}, {"awsConfig": {"mountPath": str(pod.secret)}}]},
        },
    }


def started(stack: ExitStack, pod: Pod, of: str, *arguments: str) -> None:
    """Start one, and find where it gives credentials."""
    flags = [
        "--listen=127.0.0.1:0",
        "--probes-listen=127.0.0.1:0",
        f"--authorization-file={pod.folder}/{of}-token",
    ]
    keyturn = Running([sys.executable, "-m", "keyturn", *arguments, *flags], pod.folder / f"{of}.log")
    pod.urls[of] = f"http://{keyturn.launch(GIVING)}/"
    stack.callback(keyturn.stop)


@pytest.fixture(scope="module")
def pod(aws: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """A folder that is renewed as the kubelet renews a mounted Secret, and both modes of the sidecar."""
    pod = Pod(tmp_path_factory.mktemp("pod"))
    source = pod.folder / "sources" / "acme-license"
    source.mkdir(parents=True)
    (source / "license_token").write_text(aws.refresh_token())
    (pod.folder / "request.yaml").write_text(yaml.safe_dump(manifest(pod)))
    settings = {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"leastIntervalSeconds": 1}}
    (pod.folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    with ExitStack() as stack:
        of_run = ("filename=request.yaml", "sources=sources", "config=settings.yaml", "write=secret")
        started(stack, pod, "run", "run", *(f"--{option.replace('=', f'={pod.folder}/')}" for option in of_run))
        until((pod.secret / "credentials.json").exists)
        started(stack, pod, "reader", "sidecar", f"--secret={pod.secret}")
        yield pod


@dataclass
class Call:
    """One call to STS, as the program told it: when, and by which key or with which error."""

    at: float
    key: str = ""
    error: str = ""


@pytest.fixture(scope="module")
def calls(aws: Emulator, pod: Pod) -> dict[tuple[str, str], list[Call]]:
    """What each SDK told of its calls, on each way, all at the same time."""
    # Made before one is started: nobody would see meanwhile when its calls were.
    programs = {sdk: make() for sdk, make in SDKS.items() if not missing(sdk)}
    made: dict[tuple[str, str], list[Call]] = {(sdk, way): [] for sdk in programs for way in WAYS}
    with ExitStack() as stack:
        told = {of: start(stack, aws, pod, of, programs[of[0]]) for of in made}
        while len(pod.keys) <= RENEWALS + 1:
            pod.look()
            for of, file in told.items():
                made[of] += [Call(time.monotonic(), **json.loads(line)) for line in file]
            time.sleep(0.02)
    return made


def missing(sdk: str) -> str:
    """Tell what keeps an SDK from being tried on this machine; empty if nothing does."""
    return MISSING[sdk]() if sdk in MISSING else ""


def old_seconds(sdk: str, way: str) -> int:
    return OLD_SECONDS if "endpoint" in way else OLD_SECONDS_OF_A_PROCESS.get(sdk, OLD_SECONDS)


def start(stack: ExitStack, aws: Emulator, pod: Pod, of: tuple[str, str], program: Program) -> Iterator[str]:
    """Start an SDK on a way; gives the lines that it has written since the last time."""
    command, stdin, directory = program
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    env |= {"HOME": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": aws.url}
    env |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"} | WAYS[of[1]](pod)
    output = pod.folder / f"{' '.join(of)}.log"
    with output.open("wb") as out, (stdin or Path(os.devnull)).open() as text:
        process = subprocess.Popen(die_with_parent(command), cwd=directory, env=env, stdin=text, stdout=out)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return stack.enter_context(output.open())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sdk", SDKS)
def test_no_call_fails_and_none_uses_an_old_key(
    pod: Pod, calls: dict[tuple[str, str], list[Call]], sdk: str, way: str
) -> None:
    if why := missing(sdk):
        pytest.skip(why)
    made = calls[sdk, way]

    assert [call.error for call in made if call.error] == []
    assert len({call.key for call in made}) >= RENEWALS
    assert [call for call in made if call.at > pod.replaced(call.key) + old_seconds(sdk, way)] == []


def test_another_than_the_token_gets_nothing(pod: Pod) -> None:
    assert [http_get(url, Authorization="another")[0] for url in pod.urls.values()] == [401, 401]
