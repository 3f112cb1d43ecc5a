import os
import re
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def test_demo_shows_two_renewals_in_fifteen_seconds() -> None:
    started = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-m", "tools.demo_standalone"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - started

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert len(re.findall(r"GetCallerIdentity with \w+: .*assumed-role/LicenseConsumer/", shown.stdout)) == 3
    # A busy machine gets more time.
    assert took < 15 * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_readme_names_the_make_target_of_the_demo() -> None:
    recipe = re.search(
        r"^demo-standalone: dev .*\n\t\$\(VENV\)/python -m (\S+)$", (_ROOT / "Makefile").read_text(), re.MULTILINE
    )

    assert recipe
    assert recipe[1] == "tools.demo_standalone"
    assert "`make demo-standalone`" in (_ROOT / "README.md").read_text()
