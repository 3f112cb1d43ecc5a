"""Without Kubernetes: a token in a file becomes AWS credentials that an SDK asks for, renewed before they expire.

`make demo-standalone` needs nothing but the virtual environment, and ends by itself.
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
from tests.support.processes import ROOT, Running

_EXAMPLE = ROOT / "examples" / "license-manager.yaml"
_SESSION_SECONDS = 6
_LONGEST_WAIT = 20


def main() -> None:
    """Show it, with two renewals."""
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-demo-")))
        say(f"an AWS emulator, whose sessions last {_SESSION_SECONDS} s")
        aws = stack.enter_context(running_emulator(session_seconds=_SESSION_SECONDS))
        prepare(folder, aws)
        stack.enter_context(keyturn(folder))
        show(aws, sdk(folder))
    say(f"done after {time.monotonic() - started:.0f} s")


def say(sentence: str) -> None:
    """Print a step."""
    print(f"\n=== {sentence}", flush=True)


def prepare(folder: Path, aws: Emulator) -> None:
    """Put the source where the request names it, and say where AWS is."""
    source = folder / "sources" / "acme-license"
    source.mkdir(parents=True)
    (source / "license_token").write_text(aws.refresh_token())
    settings: dict[str, Any] = {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"leastIntervalSeconds": 1}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))


@contextmanager
def keyturn(folder: Path) -> Iterator[None]:
    """Run keyturn as anybody would, until the end."""
    flags = [
        f"--filename={_EXAMPLE.relative_to(ROOT)}", f"--sources={folder}/sources",
        f"--config={folder}/settings.yaml", "--listen=127.0.0.1:0", f"--authorization-file={folder}/token",
    ]  # fmt: skip
    say("keyturn run " + " ".join(flags))
    running = Running([sys.executable, "-m", "keyturn", "run", *flags], folder / "log")
    running.spawn()
    try:
        yield
    finally:
        code = running.stop()
        say("what keyturn has logged")
        print(running.log(), end="")
    if code != 0:
        sys.exit("keyturn did not end well")


def sdk(folder: Path) -> boto3.Session:
    """boto3 with two variables, as every AWS SDK takes them, and nothing else."""
    address = told_address(folder / "log")
    given = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address}/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "token"),
    }
    say("an AWS SDK with " + " and ".join(f"{name}={value}" for name, value in given.items()))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= given | {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    # boto3 tells each time that what it holds will soon expire: here that is so from the first moment on.
    logging.getLogger("botocore").setLevel(logging.ERROR)
    return boto3.Session()


def told_address(log: Path) -> str:
    """Wait until keyturn has said where it listens, and has something to give."""
    deadline = time.monotonic() + _LONGEST_WAIT
    while "Ready=True" not in (told := log.read_text()):
        if time.monotonic() > deadline:
            sys.exit(f"keyturn gives nothing:\n{told}")
        time.sleep(0.05)
    return told.partition("giving credentials on ")[2].split()[0]


def show(aws: Emulator, session: boto3.Session) -> None:
    """Call AWS again and again, until the credentials were renewed twice."""
    client = session.client("sts", region_name="us-east-1", endpoint_url=aws.url)
    seen: list[str] = []
    deadline = time.monotonic() + _LONGEST_WAIT
    while len(seen) < 3 and time.monotonic() < deadline:
        arn, held = client.get_caller_identity()["Arn"], session.get_credentials()
        key = str(held.get_frozen_credentials().access_key) if held else ""
        if key not in seen:
            seen.append(key)
            at = datetime.now(UTC).strftime("%H:%M:%S")  # noqa: TID251 - a demo has the real clock
            print(f"{at} sts:GetCallerIdentity with {key}: {arn}", flush=True)
        time.sleep(0.1)
    if len(seen) < 3:
        sys.exit("the credentials were not renewed")


if __name__ == "__main__":
    main()
