"""Extracts and runs the shell commands of a documentation page."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]


def shell_blocks(page: str) -> list[str]:
    """Return the shell blocks of a page without those below a comment, such as `<!-- not tested: needs AWS -->`."""
    blocks: list[str] = re.findall(r"(?<!-->\n)```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return blocks


def run_command(command: str, variables: Mapping[str, str]) -> str:
    """Run a command in the repository's root and return its output; fails with its stderr."""
    run = subprocess.run(
        ["bash", "-euc", command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, f"{command}: {run.stderr}"
    return run.stdout
