"""Keycloak's distribution, downloaded with Maven and prepared once, outside the repository."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.controlplane.cache import BuildError, build_once, cache_dir, run_with_progress

VERSION = "26.7.3"
_SHA256 = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
_ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_JAVA = 17


def missing() -> str:
    """Describe the required program that is not installed; empty if all are."""
    for program in ("mvn", "java", "unzip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    output = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    version = re.search(r'version "(\d+)', output)
    return "" if version and int(version[1]) >= _JAVA else f"Java is older than {_JAVA}"


def keycloak_home() -> Path:
    """Return the folder of a Keycloak that is prepared to run with a database in memory."""
    return build_once(cache_dir() / f"keycloak-{VERSION}", _prepare)


def _prepare(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as downloads:
        copy = ["mvn", "--batch-mode", "--quiet", _COPY, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={downloads}"]
        run_with_progress("keycloak", copy, 60, Path(downloads), {})
        [archive] = Path(downloads).glob("*.zip")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != _SHA256:
            raise BuildError(f"{archive.name} has another SHA-256 than expected")
        subprocess.run(["unzip", "-q", archive, "-d", downloads], check=True)
        shutil.move(next(path for path in Path(downloads).iterdir() if path.is_dir()), folder)
    build = [str(folder / "bin" / "kc.sh"), "build", "--db=dev-mem"]
    run_with_progress("keycloak build", build, 60, folder, dict(os.environ))
