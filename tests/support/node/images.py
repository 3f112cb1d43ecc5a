"""The images of a node's pods, Keyturn's two and the pause image, imported into containerd once."""

import fcntl
import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.controlplane.build import Program, build
from tests.support.controlplane.cache import build_once, cache_dir, file_lock, log
from tests.support.controlplane.server import Server
from tests.support.node.configuration import PAUSE, containerd_config
from tests.support.node.machine import packages
from tools import image

IMAGE, SIDECAR_IMAGE = "localhost/keyturn:node", "localhost/keyturn-sidecar:node"
_SOURCE = Path(__file__).parent / "pause"
_READY_SECONDS = 20
_KEPT_VERSIONS = 3


@contextmanager
def imported_images() -> Iterator[Path]:
    """Yield containerd's root folder with the images of this checkout, and protect it from removal."""
    folder = cache_dir() / "node"
    ids = {image.build("operator"): IMAGE, image.build("sidecar"): SIDECAR_IMAGE}
    key = hashlib.sha256("".join(ids).encode() + (_SOURCE / "main.go").read_bytes()).hexdigest()[:16]
    path = folder / f"images-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.used").open("w") as used:
        with file_lock(folder / ".lock"):
            fcntl.flock(used, fcntl.LOCK_SH)
            build_once(path, lambda path: _import(path, ids))
            path.touch()
            _remove_unused(folder)
        yield path


def _import(path: Path, ids: Mapping[str, str]) -> None:
    """Import images, given by the names to import them under by ID, and the pause image."""
    log("images: importing into containerd, once per content; this usually takes 20 s")
    path.mkdir()
    with TemporaryDirectory() as temporary:
        directory = Path(temporary)
        build(Program(".", _SOURCE, "pause", {}, 1), directory / "pause")
        pause = image.build_from(_SOURCE / "Dockerfile", directory)
        with _containerd(path, directory) as ctr:
            for image_id, name in {**ids, pause: PAUSE}.items():
                archive = directory / "image.tar"
                image.export(image_id, archive, name)
                subprocess.run([*ctr, "images", "import", archive], check=True, capture_output=True)
                archive.unlink()  # an archive cannot be replaced


@contextmanager
def _containerd(root: Path, directory: Path) -> Iterator[list[str]]:
    """Run containerd, and yield the start of a command of its client."""
    socket, config = directory / "containerd.sock", directory / "containerd.toml"
    config.write_text('disabled_plugins = ["io.containerd.grpc.v1.cri"]\n' + containerd_config(root, socket))
    programs = packages() / "usr/bin"
    ctr = [str(programs / "ctr"), "--address", str(socket), "--namespace", "k8s.io"]
    # In its own mount namespace it leaves no mounts when it is killed.
    command = ["unshare", "--mount", str(programs / "containerd"), "--config", str(config)]
    server = Server("containerd", command, directory / "containerd.log")
    server.start()
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
            server.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"containerd does not respond after {_READY_SECONDS} s")
            time.sleep(0.1)
        yield ctr
    finally:
        server.stop()


def _remove_unused(folder: Path) -> None:
    """Remove the images of other checkouts except the latest; each takes most of a gigabyte."""
    for path in sorted(folder.glob("images-*"), key=lambda it: it.stat().st_mtime)[:-_KEPT_VERSIONS]:
        with path.with_name(f".{path.name}.used").open("w") as used:
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path)
