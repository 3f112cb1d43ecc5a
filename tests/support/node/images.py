"""The images of a node's pods: ours, and the one that holds a pod's network; imported into containerd once."""

import fcntl
import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.controlplane.build import Program, build
from tests.support.controlplane.cache import build_once, cache_dir, file_lock, log
from tests.support.controlplane.server import Server
from tests.support.node import configuration
from tests.support.node.machine import packages
from tools import image

IMAGE = "localhost/keyturn:node"
SOURCE = Path(__file__).parent / "pause"
PATIENCE_SECONDS = 20
KEPT = 3


@contextmanager
def imported() -> Iterator[Path]:
    """Give containerd's root folder with the image of this checkout in it, which nobody changes or removes."""
    folder = cache_dir() / "node"
    ours = image.build()
    key = hashlib.sha256(ours.encode() + (SOURCE / "main.go").read_bytes()).hexdigest()[:16]
    with ExitStack() as stack:
        with file_lock(folder / ".lock"):
            path = build_once(folder / f"images-{key}", lambda path: _import(path, ours))
            path.touch()
            stack.enter_context(_in_use(path))
            _remove_unused(folder)
        yield path


def _import(path: Path, ours: str) -> None:
    log("images: being imported into containerd, once for each content; this usually takes 20 s")
    path.mkdir()
    with TemporaryDirectory() as written:
        work = Path(written)
        build(Program(".", SOURCE, "pause", {}, 1), work / "pause")
        pause = image.build_from(SOURCE / "Dockerfile", work)
        with _containerd(path, work) as ctr:
            for number, (name, archived) in enumerate(((IMAGE, ours), (configuration.PAUSE, pause))):
                archive = work / f"{number}.tar"
                image.export(archived, archive, name)
                subprocess.run([*ctr, "images", "import", archive], check=True, capture_output=True)


@contextmanager
def _containerd(root: Path, work: Path) -> Iterator[list[str]]:
    """Run containerd, and give the beginning of a command that speaks to it."""
    socket, config = work / "containerd.sock", work / "containerd.toml"
    config.write_text(
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n' + configuration.containerd(root, socket)
    )
    programs = packages() / "usr/bin"
    ctr = [str(programs / "ctr"), "--address", str(socket), "--namespace", "k8s.io"]
    # Its mounts are its own: a killed one leaves none.
    command = ["unshare", "--mount", str(programs / "containerd"), "--config", str(config)]
    server = Server("containerd", command, work / "containerd.log")
    server.start()
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
            server.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"containerd does not answer after {PATIENCE_SECONDS} s")
            time.sleep(0.1)
        yield ctr
    finally:
        server.stop()


@contextmanager
def _in_use(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.used").open("w") as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        yield


def _remove_unused(folder: Path) -> None:
    """Remove what other checkouts left, but the latest: each is most of a gigabyte."""
    for path in sorted(folder.glob("images-*"), key=lambda it: it.stat().st_mtime)[:-KEPT]:
        with path.with_name(f".{path.name}.used").open("w") as used:
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path)
