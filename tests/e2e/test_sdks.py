"""AWS SDKs with each way to get credentials in a pod: no call fails in ten renewals, and none uses an old key."""

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
from tests.support.controlplane import dies_with_us
from tests.support.emulator.running import Aws, endpoints, running_emulator
from tests.support.emulator.world import ROLE_ARN
from tests.support.processes import RestartableProcess, http_get, until
from tests.support.sdk import golang

ROOT = Path(__file__).parents[2]
JAVASCRIPT = ROOT / "tests" / "support" / "sdk" / "javascript"
LISTENING = re.compile(r"credentials on (\S+:\d+)")
SESSION_SECONDS = 12  # renewed after 7 to 8 seconds
RENEWALS = 10
# With so little lifetime left, boto3 reloads before each call and JavaScript during each call.
MAX_AGE_SECONDS = 4
# Go reloads from an endpoint as boto3 does, but keeps the output of a process until it expires.
MAX_AGE_SECONDS_OF_A_PROCESS = {"Go": 8}


@dataclass
class Pod:
    """The folder of two sidecars, and when each access key appeared in it."""

    folder: Path
    keys: dict[str, float] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    def record_key(self) -> None:
        """Record the current access key."""
        try:
            credentials = json.loads((self.secret / "credentials.json").read_text())
        except FileNotFoundError:
            return
        self.keys.setdefault(credentials["AccessKeyId"], time.monotonic())

    def replaced_at(self, key: str) -> float:
        """Return when this key was replaced; infinity if it was not."""
        order = list(self.keys)
        later = order[order.index(key) + 1 :]
        return self.keys[later[0]] if later else float("inf")

    def endpoint(self, sidecar: str) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.urls[sidecar],
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(self.folder / f"{sidecar}-token"),
        }

    def config(self, command: str) -> dict[str, str]:
        name = self.folder / f"config-{len(list(self.folder.glob('config-*')))}"
        name.write_text(f"[default]\ncredential_process = {command}\n")
        return {"AWS_CONFIG_FILE": str(name)}


def keyturn(*arguments: str) -> str:
    return f"{sys.executable} -m keyturn {' '.join(arguments)}"


# The environment variables that a manifest sets in a pod.
WAYS: Mapping[str, Callable[[Pod], dict[str, str]]] = {
    "credential_process = cat": lambda pod: pod.config(f"cat {pod.secret}/credentials.json"),
    "the format awsConfig": lambda pod: {"AWS_CONFIG_FILE": f"{pod.secret}/config"},
    "keyturn credential-process": lambda pod: pod.config(keyturn("credential-process", f"--secret-dir={pod.secret}")),
    "the endpoint of the reader": lambda pod: pod.endpoint("reader"),
    "the endpoint of keyturn run": lambda pod: pod.endpoint("run"),
}
Program = tuple[list[str], Path | None, Path]  # the command, its stdin, its working directory
SDKS: Mapping[str, Callable[[], Program]] = {
    "boto3": lambda: ([sys.executable, "-m", "tests.support.sdk.caller"], None, ROOT),
    # With a script from stdin, node resolves packages from its working directory.
    "JavaScript": lambda: (
        ["node", "--input-type=module"],
        JAVASCRIPT / "caller.mjs",
        npm.installed("sdk-javascript", JAVASCRIPT),
    ),
    "Go": lambda: ([str(golang.caller())], None, ROOT),
}
MISSING: Mapping[str, Callable[[], str]] = {"JavaScript": npm.missing, "Go": golang.missing}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
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


def start_sidecar(stack: ExitStack, pod: Pod, name: str, *arguments: str) -> None:
    """Start a sidecar and record its URL."""
    flags = [
        "--listen=127.0.0.1:0",
        "--http-bind-address=127.0.0.1:0",
        f"--authorization-file={pod.folder}/{name}-token",
    ]
    keyturn = RestartableProcess([sys.executable, "-m", "keyturn", *arguments, *flags], pod.folder / f"{name}.log")
    pod.urls[name] = f"http://{keyturn.launch(LISTENING)}/"
    stack.callback(keyturn.stop)


@pytest.fixture(scope="module")
def pod(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """A folder that is updated as the kubelet updates a mounted Secret, and both modes of the sidecar."""
    pod = Pod(tmp_path_factory.mktemp("pod"))
    source = pod.folder / "sources" / "acme-license"
    source.mkdir(parents=True)
    (source / "license_token").write_text(aws.refresh_token())
    (pod.folder / "request.yaml").write_text(yaml.safe_dump(manifest(pod)))
    settings = {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"minIntervalSeconds": 1}}
    (pod.folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    with ExitStack() as stack:
        files = {
            "filename": "request.yaml",
            "sources-dir": "sources",
            "config": "settings.yaml",
            "output-dir": "secret",
        }
        start_sidecar(stack, pod, "run", "run", *(f"--{flag}={pod.folder}/{name}" for flag, name in files.items()))
        until((pod.secret / "credentials.json").exists)
        start_sidecar(stack, pod, "reader", "sidecar", f"--secret-dir={pod.secret}")
        yield pod


@dataclass
class Call:
    """A call to STS: when it was logged, and the access key or the error."""

    at: float
    key: str = ""
    error: str = ""


@pytest.fixture(scope="module")
def calls(aws: Aws, pod: Pod) -> dict[tuple[str, str], list[Call]]:
    """The calls of each SDK in each way, all at the same time."""
    # Build all programs before starting one: the time of a call is when its line is read.
    programs = {sdk: build() for sdk, build in SDKS.items() if not missing(sdk)}
    calls: dict[tuple[str, str], list[Call]] = {(sdk, way): [] for sdk in programs for way in WAYS}
    with ExitStack() as stack:
        logs = {key: start(stack, aws, pod, *key, programs[key[0]]) for key in calls}
        while len(pod.keys) <= RENEWALS + 1:
            pod.record_key()
            for key, log in logs.items():
                calls[key] += [Call(time.monotonic(), **json.loads(line)) for line in log]
            time.sleep(0.02)
    return calls


def missing(sdk: str) -> str:
    """Describe what an SDK needs that is not installed; empty if nothing is missing."""
    return MISSING[sdk]() if sdk in MISSING else ""


def max_age_seconds(sdk: str, way: str) -> int:
    return MAX_AGE_SECONDS if "endpoint" in way else MAX_AGE_SECONDS_OF_A_PROCESS.get(sdk, MAX_AGE_SECONDS)


def start(stack: ExitStack, aws: Aws, pod: Pod, sdk: str, way: str, program: Program) -> Iterator[str]:
    """Start an SDK; the iterator yields its new lines each time it is used."""
    command, stdin, directory = program
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    env |= {"HOME": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": aws.url}
    env |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"} | WAYS[way](pod)
    output = pod.folder / f"{sdk} {way}.log"
    with output.open("wb") as out, (stdin or Path(os.devnull)).open() as text:
        process = subprocess.Popen(dies_with_us(command), cwd=directory, env=env, stdin=text, stdout=out)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return stack.enter_context(output.open())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sdk", SDKS)
def test_no_call_fails_or_uses_an_old_key(
    pod: Pod, calls: dict[tuple[str, str], list[Call]], sdk: str, way: str
) -> None:
    if reason := missing(sdk):
        pytest.skip(reason)
    made_calls = calls[sdk, way]

    assert [call.error for call in made_calls if call.error] == []
    assert len({call.key for call in made_calls}) >= RENEWALS
    assert [call for call in made_calls if call.at > pod.replaced_at(call.key) + max_age_seconds(sdk, way)] == []


def test_wrong_authorization_token_is_refused(pod: Pod) -> None:
    assert [http_get(url, Authorization="another")[0] for url in pod.urls.values()] == [401, 401]
