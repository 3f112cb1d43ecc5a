"""The commands of a page of documentation, to be run as they stand there."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]


def blocks(page: str) -> list[str]:
    """The shell commands of a file, by the blocks that they stand in."""
    found: list[str] = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return found


def run(command: str, variables: Mapping[str, str]) -> str:
    """Run a command at the repository's root and return what it printed; fails with what it said on stderr."""
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
