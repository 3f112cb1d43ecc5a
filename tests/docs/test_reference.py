"""The reference is generated. `make verify` checks that it is current."""

from tools.reference.__main__ import PAGES, ROOT


def test_every_file_of_the_reference_is_generated() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "reference").rglob("*") if path.is_file()}

    assert files == {name for name in PAGES if name.startswith("docs/reference/")}
