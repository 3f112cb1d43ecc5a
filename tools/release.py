"""Builds the files of a release into build/release, without publishing anything: python -m tools.release.

The environment variable IMAGE is the image that the packaged chart names by default, without a tag. The release
workflow sets it; the default is for trials.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from keyturn import __version__
from tests.support.cluster.chart import CHART, helm
from tools import krew
from tools.executable import ARCHIVES, PLATFORM, PLATFORMS, archive_name

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
RELEASE = BUILD / "release"
IMAGE = os.environ.get("IMAGE") or "registry.example.com/keyturn"
_SBOMS = ("sbom.json", "sbom-sidecar.json")


def build() -> None:
    """Write the wheel, sdist, chart, CRD, SBOMs and executables to build/release, and the notes beside it."""
    heading, notes = changelog()
    home = yaml.safe_load((CHART / "Chart.yaml").read_text())["home"]
    is_tag = os.environ.get("GITHUB_REF_TYPE") == "tag"
    if is_tag and ("not released" in heading or "OWNER" in home):
        sys.exit("before a release, replace OWNER/REPOSITORY in all files, and write the date into CHANGELOG.md")
    source = f"SOURCE_URL={home}/blob/v{__version__}/"
    # On a tag, the workflow has built the executables of all platforms before.
    targets = ("dist", "check-dist", "sbom", "docs", *(() if is_tag else ("executable",)))
    subprocess.run(["make", *targets, source], cwd=ROOT, check=True)
    shutil.rmtree(RELEASE, ignore_errors=True)
    RELEASE.mkdir(parents=True)
    sources = (ROOT / "crds").iterdir(), (BUILD / "dist").glob("keyturn-*"), (BUILD / name for name in _SBOMS)
    for path in (path for paths in sources for path in paths):
        shutil.copy(path, RELEASE)
    package_chart(home, notes)
    add_executables(home, PLATFORMS if is_tag else [PLATFORM])
    (BUILD / "release-notes.md").write_text(notes)


def changelog() -> tuple[str, str]:
    """Return the heading and the text of the newest version in CHANGELOG.md, which must be the current one."""
    _, newest, *_ = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    heading, _, text = newest.partition("\n")
    if heading.split()[0] != __version__:
        sys.exit(f"CHANGELOG.md begins with {heading.split()[0]}, and the version is {__version__}")
    return heading, text.strip() + "\n"


def package_chart(home: str, notes: str) -> None:
    """Package the chart with its image as a default, its changes, and links that work outside of the repository."""
    copy = BUILD / "chart" / CHART.name
    shutil.rmtree(copy.parent, ignore_errors=True)
    shutil.copytree(CHART, copy)
    changes = yaml.safe_dump([{"kind": "changed", "description": text} for text in sentences(notes)], width=1000)
    added = "  artifacthub.io/changes: |\n" + re.sub("^", "    ", changes.strip(), flags=re.MULTILINE) + "\n"
    _edit(copy / "Chart.yaml", "REGISTRY/keyturn", IMAGE)
    _edit(copy / "Chart.yaml", "annotations:\n", f"annotations:\n{added}")
    _edit(copy / "values.yaml", 'repository: ""', f"repository: {IMAGE}")
    _edit(copy / "README.md", "](../../", f"]({home}/blob/v{__version__}/")
    _edit(copy / "README.md", "](examples", f"]({home}/blob/v{__version__}/charts/keyturn/examples")
    helm("package", str(copy), "--destination", str(RELEASE))


def add_executables(home: str, platforms: Iterable[str]) -> None:
    """Copy the archives of the kubectl plugin, and write their checksums and krew's manifest."""
    sums = {}
    for platform in platforms:
        archive = RELEASE / archive_name(platform)
        shutil.copy(ARCHIVES / archive.name, archive)
        sums[platform] = hashlib.sha256(archive.read_bytes()).hexdigest()
    lines = [f"{sha256}  {archive_name(platform)}\n" for platform, sha256 in sums.items()]
    (RELEASE / "kubectl-keyturn.sha256").write_text("".join(lines))
    (RELEASE / "keyturn.yaml").write_text(krew.manifest(sums, home, __version__))


def sentences(notes: str) -> list[str]:
    """Return the first sentence of each item of the notes."""
    items = re.findall(r"^- (.*(?:\n  .*)*)", notes, re.MULTILINE)
    return [re.split(r"(?<=\.)\s", " ".join(item.split()))[0] for item in items]


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        sys.exit(f"{path} does not contain {old!r}")
    path.write_text(text.replace(old, new))


if __name__ == "__main__":
    build()
    print(*sorted(path.relative_to(ROOT) for path in RELEASE.iterdir()), sep="\n")
