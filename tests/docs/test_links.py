"""Every link of every page leads somewhere. No network: of other hosts' pages only the form is looked at."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tools.reference import anchor

ROOT = Path(__file__).parents[2]
NOT_OURS = {".venv", "node_modules", "build", ".git"}
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted(ROOT.rglob("*.md"))
    if not NOT_OURS & set(path.relative_to(ROOT).parts)
}
_CODE = re.compile(r"^( *)(```+).*?^ *\2`*$", re.DOTALL | re.MULTILINE)
_INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
# [text](target), where the text may hold a pair of brackets, and [name]: target.
_LINK = re.compile(r"\[(?:[^][]|\[[^][]*\])*\]\(([^()\s]+)\)|^\[[^]]+\]: +(\S+)$", re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of all links that are not in code."""
    prose = _INLINE_CODE.sub("code", _CODE.sub("", text))
    return [inline or named for inline, named in _LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page: the second one of a name ends in -1."""
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", _CODE.sub("", text), re.MULTILINE)
    names = [anchor(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings]
    before = [names[:at].count(name) for at, name in enumerate(names)]
    return {f"{name}-{number}" if number else name for name, number in zip(names, before, strict=True)}


@cache
def _anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text())


def problem(link: str, page: Path) -> str:
    """What is wrong with a link of a page, nothing where it leads somewhere."""
    parts = urlsplit(link)
    if parts.scheme:
        return "" if parts.scheme == "https" and "." in (parts.hostname or "") else "no https link to a host"
    target = (page.parent / parts.path).resolve() if parts.path else page
    if not (target.exists() and target.is_relative_to(ROOT)):
        return "no such file"
    if parts.fragment and (target.suffix != ".md" or parts.fragment not in _anchors_of(target)):
        return "no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_somewhere(page: str) -> None:
    wrong = {link: problem(link, PAGES[page]) for link in links(PAGES[page].read_text())}

    assert {link: why for link, why in wrong.items() if why} == {}


def test_each_page_of_docs_is_in_the_table_of_contents() -> None:
    listed = links((ROOT / "docs" / "README.md").read_text())
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/") and "/decisions/" not in page}

    assert pages - {"README.md"} <= {link.partition("#")[0] for link in listed}


@pytest.mark.parametrize(
    ("link", "why"),
    [
        pytest.param("guides.md", "", id="a page beside it"),
        pytest.param("#traps", "no such heading", id="an anchor of another page"),
        pytest.param("Pods.md", "no such file", id="another case"),
        pytest.param("../../../outside.md", "no such file", id="outside of the repository"),
        pytest.param("../../Makefile#check", "no such heading", id="a heading of what has none"),
        pytest.param("http://example.com/", "no https link to a host", id="without TLS"),
        pytest.param("https://example/", "no https link to a host", id="no host"),
        pytest.param("../../operator/keyturn", "", id="a folder"),
    ],
)
def test_a_link_is_judged(link: str, why: str) -> None:
    assert problem(link, ROOT / "docs" / "exchanges" / "flows.md") == why


def test_what_stands_in_code_is_no_link() -> None:
    text = "[a](x.md) `[b](y.md)`\n```sh\n[c](z.md)\n```\n[`d[]`](v.md), [e[f]](w.md)\n[g]: u.md\n"

    assert links(text) == ["x.md", "v.md", "w.md", "u.md"]


def test_the_second_heading_of_a_name_has_an_anchor_of_its_own() -> None:
    assert anchors("# A `b_c`\n## [D](x.md)!\n## D\n```\n# no\n```\n") == {"a-b_c", "d", "d-1"}
