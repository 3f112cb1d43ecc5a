"""Mounts Secrets with credentials in the way that the kubelet does."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from keyturn.cli import now


def process(number: int, expires_at: datetime) -> dict[str, str]:
    """Return the data of a Secret with format credentialProcess; every secret value ends in the number."""
    fields = {
        "Version": 1,
        "AccessKeyId": f"ASIA{number}",
        "SecretAccessKey": f"planted-secret-{number}",
        "SessionToken": f"planted-token-{number}",
        "Expiration": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
    }
    return {"credentials.json": json.dumps(fields)}


def variables(number: int, expires_at: datetime) -> dict[str, str]:
    """Return the data of a Secret with format env."""
    return {
        "AWS_ACCESS_KEY_ID": f"ASIA{number}",
        "AWS_SECRET_ACCESS_KEY": f"planted-secret-{number}",
        "AWS_SESSION_TOKEN": f"planted-token-{number}",
        "expiration": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def swap(directory: Path, data: dict[str, str]) -> None:
    """Replace all files as the kubelet does: rename `..data` to the new version, then remove the old version."""
    link = directory / "..data"
    old = link.resolve() if link.is_symlink() else directory / "..version-0"
    new = directory / f"..version-{int(old.name.removeprefix('..version-')) + 1}"
    new.mkdir(parents=True)
    for name, text in data.items():
        (new / name).write_text(text)
    (directory / "..data_tmp").symlink_to(new.name)
    (directory / "..data_tmp").rename(link)
    shutil.rmtree(old, ignore_errors=True)
    for name in data:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for path in directory.iterdir():
        if not path.exists():
            path.unlink()


def mount_credentials(directory: Path, number: int, minutes: float = 10) -> None:
    """Mount the credentials with this number, which expire in `minutes`."""
    swap(directory, process(number, now() + timedelta(minutes=minutes)))


@contextmanager
def swapping(directory: Path, expires_at: datetime) -> Iterator[None]:
    """Replace the files as fast as possible while the block runs."""
    done = threading.Event()

    def swap_until_done() -> None:
        number = 0
        while not done.is_set():
            number += 1
            swap(directory, variables(number, expires_at))

    thread = threading.Thread(target=swap_until_done)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
