"""A demo without Kubernetes: a token in a file becomes AWS credentials for an SDK, renewed before their expiry.

`make demo-standalone` needs only the virtual environment and exits by itself.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import yaml

from tests.support.emulator.client import Emulator, endpoints, running_emulator
from tests.support.processes import ROOT, RestartableProcess
from tests.support.signals import interrupt_on_signals

_EXAMPLE = ROOT / "examples" / "license-manager.yaml"
_SESSION_SECONDS = 6
_TIMEOUT_SECONDS = 20


def main() -> None:
    """Run the demo with two renewals."""
    interrupt_on_signals()
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-demo-")))
        print_step(f"Starting an AWS emulator with sessions of {_SESSION_SECONDS} s")
        aws = stack.enter_context(running_emulator(session_seconds=_SESSION_SECONDS))
        prepare(folder, aws)
        stack.enter_context(keyturn(folder))
        show(aws, sdk(folder))
    print_step(f"Done after {time.monotonic() - started:.0f} s")


def print_step(sentence: str) -> None:
    print(f"\n=== {sentence}", flush=True)


def prepare(folder: Path, aws: Emulator) -> None:
    """Write the source to which the TokenRequest refers, and the settings."""
    source = folder / "sources" / "acme-license"
    source.mkdir(parents=True)
    (source / "license_token").write_text(aws.refresh_token())
    settings: dict[str, Any] = {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"minIntervalSeconds": 1}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))


@contextmanager
def keyturn(folder: Path) -> Iterator[None]:
    """Run keyturn while the block runs."""
    flags = [
        f"--filename={_EXAMPLE.relative_to(ROOT)}", f"--sources-dir={folder}/sources",
        f"--config={folder}/settings.yaml", "--listen=127.0.0.1:0", f"--authorization-file={folder}/token",
    ]  # fmt: skip
    print_step("keyturn run " + " ".join(flags))
    process = RestartableProcess([sys.executable, "-m", "keyturn", "run", *flags], folder / "log")
    process.spawn()
    try:
        yield
    finally:
        code = process.stop()
        print_step("The log of keyturn")
        print(process.log(), end="")
    if code != 0:
        sys.exit("keyturn failed")


def sdk(folder: Path) -> boto3.Session:
    """Return a boto3 session that is configured only with the two variables that every AWS SDK supports."""
    address = wait_for_address(folder / "log")
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address}/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "token"),
    }
    print_step("An AWS SDK with " + " and ".join(f"{name}={value}" for name, value in variables.items()))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= variables | {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    # boto3 warns each time that the credentials expire soon, which is always the case here.
    logging.getLogger("botocore").setLevel(logging.ERROR)
    return boto3.Session()


def wait_for_address(log: Path) -> str:
    """Wait until keyturn has credentials; returns the address of its endpoint."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while "Ready=True" not in (text := log.read_text()):
        if time.monotonic() > deadline:
            sys.exit(f"keyturn has no credentials:\n{text}")
        time.sleep(0.05)
    return text.partition(" credentials on ")[2].split()[0]


def show(aws: Emulator, session: boto3.Session) -> None:
    """Call AWS repeatedly until the credentials were renewed twice."""
    client = session.client("sts", region_name="us-east-1", endpoint_url=aws.url)
    keys: list[str] = []
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while len(keys) < 3 and time.monotonic() < deadline:
        arn, credentials = client.get_caller_identity()["Arn"], session.get_credentials()
        key = str(credentials.get_frozen_credentials().access_key) if credentials else ""
        if key not in keys:
            keys.append(key)
            at = datetime.now(UTC).strftime("%H:%M:%S")  # noqa: TID251 - the demo prints the real time
            print(f"{at} sts:GetCallerIdentity with {key}: {arn}", flush=True)
        time.sleep(0.1)
    if len(keys) < 3:
        sys.exit("the credentials were not renewed")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
