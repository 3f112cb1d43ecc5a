"""All links between pages resolve, and the tests that pages name exist. Other hosts are not contacted."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tools.reference.markdown import anchor

ROOT = Path(__file__).parents[2]
# The plugin shows its copy of the troubleshooting page without link targets, and notes become part of docs/reference.
EXCLUDED = {".venv", "node_modules", "build", ".git", "kubectl", "notes"}
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted(ROOT.rglob("*.md"))
    if not EXCLUDED & set(path.relative_to(ROOT).parts)
}
_CODE = re.compile(r"^( *)(```+).*?^ *\2`*$", re.DOTALL | re.MULTILINE)
_INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
# [text](target), where the text may contain a pair of brackets, and [name]: target.
_LINK = re.compile(r"\[(?:[^][]|\[[^][]*\])*\]\(([^()\s]+)\)|^\[[^]]+\]: +(\S+)$", re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of all links outside of code."""
    prose = _INLINE_CODE.sub("code", _CODE.sub("", text))
    return [inline or named for inline, named in _LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page: the second one of a name ends in -1."""
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", _CODE.sub("", text), re.MULTILINE)
    names = [anchor(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings]
    counts = [names[:index].count(name) for index, name in enumerate(names)]
    return {f"{name}-{number}" if number else name for name, number in zip(names, counts, strict=True)}


@cache
def _anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text())


def problem(link: str, page: Path) -> str:
    """Describe what is wrong with a link of a page; empty if it resolves."""
    parts = urlsplit(link)
    if parts.scheme:
        return "" if parts.scheme == "https" and "." in (parts.hostname or "") else "not an https link to a host"
    target = (page.parent / parts.path).resolve() if parts.path else page
    if not (target.exists() and target.is_relative_to(ROOT)):
        return "no such file"
    if parts.fragment and (target.suffix != ".md" or parts.fragment not in _anchors_of(target)):
        return "no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    problems = {link: problem(link, PAGES[page]) for link in links(PAGES[page].read_text())}

    assert {link: text for link, text in problems.items() if text} == {}


def test_pages_are_in_the_table_of_contents() -> None:
    listed = links((ROOT / "docs" / "README.md").read_text())
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/") and "/decisions/" not in page}

    assert pages - {"README.md"} <= {link.partition("#")[0] for link in listed}


def test_tests_that_pages_name_exist() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = {
        name: page
        for page, path in PAGES.items()
        if not page.startswith("CHANGELOG")
        for name in re.findall(r"`(test_\w+)`", path.read_text())
    }

    assert {name: page for name, page in names.items() if f"def {name}(" not in tests} == {}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        pytest.param("sts.md", "", id="a page beside it"),
        pytest.param("#findings", "no such heading", id="an anchor of another page"),
        pytest.param("Pods.md", "no such file", id="another case"),
        pytest.param("../../../outside.md", "no such file", id="outside of the repository"),
        pytest.param("../../Makefile#check", "no such heading", id="a heading in a file without headings"),
        pytest.param("http://example.com/", "not an https link to a host", id="without TLS"),
        pytest.param("https://example/", "not an https link to a host", id="no host"),
        pytest.param("../../operator/keyturn", "", id="a folder"),
    ],
)
def test_problem_of_a_link(link: str, expected: str) -> None:
    assert problem(link, ROOT / "docs" / "exchanges" / "oauth.md") == expected


def test_links_in_code_are_ignored() -> None:
    text = "[a](x.md) `[b](y.md)`\n```sh\n[c](z.md)\n```\n[`d[]`](v.md), [e[f]](w.md)\n[g]: u.md\n"

    assert links(text) == ["x.md", "v.md", "w.md", "u.md"]


def test_repeated_headings_have_numbered_anchors() -> None:
    assert anchors("# A `b_c`\n## [D](x.md)!\n## D\n```\n# no\n```\n") == {"a-b_c", "d", "d-1"}
