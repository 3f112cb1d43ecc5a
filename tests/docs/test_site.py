"""The site that `make docs` builds."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import npm
from tests.support.cluster.page import ROOT

SOURCE_URL = "https://git.example.com/keyturn/blob/main/"
# What a browser loads by itself from another host: scripts, images and style sheets.
LOADED = re.compile(r'<(?:script|img)[^>]* src="(https?:[^"]+)|<link[^>]* href="(https?:[^"]+)')


@pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
def test_site_is_complete_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    build = subprocess.run(
        ["make", "docs", f"SITE={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"SOURCE_URL": SOURCE_URL},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr

    pages = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {name: urls for name, text in pages.items() if (urls := LOADED.findall(text))} == {}
    assert f'href="{SOURCE_URL}examples/pod.yaml"' in pages["pods/overview/index.html"]
    assert 'src="../assets/mermaid.min.js"' in pages["concepts/index.html"]
    assert (tmp_path / "assets" / "mermaid.min.js").exists()
