"""A test runs every shell block of the docs, or a comment on the line before the block states what a test lacks."""

import pytest

from tests.support.cluster.page import OPERATIONS_PAGES, ROOT, all_shell_blocks

COMMENTS = {
    "not tested: needs AWS",
    "not tested: needs a container registry",
    "not tested: needs a node",
    "not tested: needs a release",
    "not tested: needs pipx",
}
# Tests run the blocks of these pages that have no comment.
TESTED = {
    "README.md",
    "docs/getting-started.md",
    "docs/installation.md",
    *OPERATIONS_PAGES,
    "docs/operations/tenancy.md",
    "docs/operations/troubleshooting.md",
    # Generated from the help texts: tests/unit/cli/test_help.py parses their examples.
    "docs/reference/cli.md",
}
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_shell_block_is_tested_or_has_a_comment(page: str) -> None:
    untested = [block for block in all_shell_blocks(page) if block.comment or page not in TESTED]

    assert [block for block in untested if block.comment not in COMMENTS] == []


def test_comments_are_in_use() -> None:
    assert {block.comment for page in PAGES for block in all_shell_blocks(page)} - {""} == COMMENTS
