"""Hooks of mkdocs: links to files that are not pages of the site, and Mermaid from npm instead of a public server."""

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_BUILD = _ROOT / "build" / "mermaid"
# Material for MkDocs 9 supports Mermaid 11.
_MERMAID = "mermaid-11.17.2.tgz"
_MERMAID_SHA256 = "6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd"
# A code block, or a link whose text may contain a pair of brackets.
_CODE_OR_LINK = re.compile(
    r"^ *```.*?^ *```$|\[((?:[^][]|\[[^][]*\])*)\]\(([^()\s:#][^()\s:]*)\)", re.DOTALL | re.MULTILINE
)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Let links to files outside of docs/ point to the repository, or remove them if its URL is unknown."""
    docs = Path(config["docs_dir"])
    folder = (docs / page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        path = Path(os.path.normpath(folder / (target or "")))
        if target is None or path.is_relative_to(docs):
            return match[0]
        source = config["extra"]["source_url"]
        return f"[{text}]({source}{path.relative_to(_ROOT)})" if source else text

    return _CODE_OR_LINK.sub(link, markdown)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Load Mermaid before the script of the theme, which would otherwise load it from a public server."""
    script = "../" * page.url.count("/") + "assets/mermaid.min.js"
    return f'{html}<script src="{script}"></script>' if 'class="mermaid"' in html else html


def on_post_build(*, config: Any) -> None:
    """Copy Mermaid into the site."""
    archive = _BUILD / _MERMAID
    if not archive.exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        name = _MERMAID.removesuffix(".tgz").replace("-", "@")
        subprocess.run(["npm", "pack", "--silent", f"--pack-destination={_BUILD}", name], check=True)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == _MERMAID_SHA256, f"{archive} is not the pinned version"
    with tarfile.open(archive) as tar:
        script = tar.extractfile("package/dist/mermaid.min.js")
        assert script
        (Path(config["site_dir"]) / "assets" / "mermaid.min.js").write_bytes(script.read())
