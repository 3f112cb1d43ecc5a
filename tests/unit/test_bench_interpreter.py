"""The benchmark prefers a Python that was built with profile-guided optimisation."""

import sys

import pytest
from packaging.specifiers import SpecifierSet

from tools.bench.interpreter import Interpreter, choose, probe

VERSIONS = SpecifierSet(">=3.11")


def interpreter(version: str, configured: str = "", *, is_debian: bool = False) -> Interpreter:
    return Interpreter(f"/opt/python{version}", version, configured, "", is_debian)


PLAIN = interpreter("3.11.7", "'--enable-shared'")
PGO = interpreter("3.12.1", "'--enable-optimizations'")
PGO_AND_LTO = interpreter("3.11.9", "'--enable-optimizations' '--with-lto'")
DEBIAN = interpreter("3.11.2", "'--enable-shared'", is_debian=True)
OLD = interpreter("3.10.4", "'--enable-optimizations' '--with-lto'")


@pytest.mark.parametrize(
    ("current", "others", "chosen"),
    [
        pytest.param(PGO, [PGO_AND_LTO], PGO, id="the current one has PGO"),
        pytest.param(PLAIN, [PLAIN, DEBIAN], DEBIAN, id="only another one has PGO"),
        pytest.param(PLAIN, [PGO, PGO_AND_LTO, DEBIAN], PGO_AND_LTO, id="one has LTO too"),
        pytest.param(PLAIN, [DEBIAN, PGO], PGO, id="one is newer"),
        pytest.param(PLAIN, [PLAIN, OLD], PLAIN, id="the one with PGO is too old"),
    ],
)
def test_choose_prefers_an_optimised_python(
    current: Interpreter, others: list[Interpreter], chosen: Interpreter
) -> None:
    assert choose(current, iter(others), VERSIONS) == chosen


def test_describe_shows_the_build() -> None:
    assert PLAIN.describe() == "Python 3.11.7, /opt/python3.11.7: no PGO, no LTO"
    assert PGO_AND_LTO.describe() == "Python 3.11.9, /opt/python3.11.9: PGO, LTO"
    assert "a Debian package" in DEBIAN.describe()


def test_probe_reads_the_version() -> None:
    running = probe(sys.executable)

    assert running
    assert running.numbers == sys.version_info[:3]
