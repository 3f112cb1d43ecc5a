"""Extracts and runs the shell commands of a documentation page."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.controlplane import ControlPlane, binary

ROOT = Path(__file__).parents[3]
# tests/docs/test_operations.py runs their commands in one cluster.
OPERATIONS_PAGES = [
    *(f"docs/pods/{name}.md" for name in ("overview", "injection")),
    *(f"docs/operations/{name}.md" for name in ("configuration", "proxies", "security", "gitops")),
    *(f"docs/operations/{name}.md" for name in ("backup-and-restore", "migrating-from-eso", "ci-and-cron")),
]
_BLOCK = re.compile(r"^(?: *<!-- ([^\n]+) -->\n)? *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ShellBlock:
    """A shell block of a page, and the text of the HTML comment on the line before it."""

    comment: str
    commands: str


def all_shell_blocks(page: str) -> list[ShellBlock]:
    blocks = _BLOCK.findall((ROOT / page).read_text())
    return [ShellBlock(comment, textwrap.dedent(commands)) for comment, commands in blocks]


def shell_blocks(page: str) -> list[str]:
    """Return the commands of the blocks without a comment, such as `<!-- not tested: needs AWS -->`."""
    return [block.commands for block in all_shell_blocks(page) if not block.comment]


def shell_variables(plane: ControlPlane, **variables: str) -> dict[str, str]:
    """Return the environment of a shell with kubectl, helm and keyturn on its PATH."""
    programs = [Path(sys.executable), binary("helm"), binary("kubectl")]
    path = os.pathsep.join([*(str(program.parent) for program in programs), os.environ["PATH"]])
    return os.environ | {"PATH": path, "KUBECONFIG": str(plane.kubeconfig)} | variables


def run_command(command: str, variables: Mapping[str, str]) -> str:
    """Run a command in the repository's root and return its output; fails with its stderr."""
    run = subprocess.run(
        ["bash", "-euc", command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, f"{command}: {run.stderr}"
    return run.stdout
