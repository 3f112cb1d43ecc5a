"""Folders with the keys of a Secret, made as the kubelet makes them."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path


def process(number: int, expires_at: datetime) -> dict[str, str]:
    """The data of a Secret in the form of a credential process; every secret value ends in the number."""
    fields = {
        "Version": 1,
        "AccessKeyId": f"ASIA{number}",
        "SecretAccessKey": f"planted-secret-{number}",
        "SessionToken": f"planted-token-{number}",
        "Expiration": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
    }
    return {"credentials.json": json.dumps(fields)}


def variables(number: int, expires_at: datetime) -> dict[str, str]:
    """The same in the form of variables."""
    return {
        "AWS_ACCESS_KEY_ID": f"ASIA{number}",
        "AWS_SECRET_ACCESS_KEY": f"planted-secret-{number}",
        "AWS_SESSION_TOKEN": f"planted-token-{number}",
        "expiration": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def swap(directory: Path, data: dict[str, str]) -> None:
    """Put a new version of all files in place as the kubelet does: one rename, then the old version goes."""
    link = directory / "..data"
    old = link.resolve() if link.is_symlink() else directory / "..version-0"
    new = directory / f"..version-{int(old.name.removeprefix('..version-')) + 1}"
    new.mkdir(parents=True)
    for name, text in data.items():
        (new / name).write_text(text)
    (directory / "..data_tmp").symlink_to(new.name)
    (directory / "..data_tmp").rename(link)
    shutil.rmtree(old, ignore_errors=True)
    _link_each(directory, data)


def _link_each(directory: Path, data: dict[str, str]) -> None:
    for name in data:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for one in directory.iterdir():
        if not one.exists():
            one.unlink()


@contextmanager
def swapping(directory: Path, expires_at: datetime) -> Iterator[None]:
    """Swap as fast as can be, as long as the block runs."""
    done = threading.Event()

    def swap_on() -> None:
        number = 0
        while not done.is_set():
            number += 1
            swap(directory, variables(number, expires_at))

    thread = threading.Thread(target=swap_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
