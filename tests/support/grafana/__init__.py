"""Checks a dashboard against the types that Grafana publishes for its own code."""

import subprocess
from pathlib import Path

from tests.support.npm import installed

_HERE = Path(__file__).parent
_PROGRAM = "import type {{ JsonDashboard }} from './types';\nexport const dashboard: JsonDashboard = {dashboard};\n"
_TSC = "node_modules/typescript/bin/tsc --noEmit --strict --skipLibCheck --target es2022 --module esnext"


def type_errors(dashboard: str, directory: Path) -> str:
    """Return what the compiler reports about a dashboard in JSON; `directory` receives the program."""
    (directory / "node_modules").symlink_to(installed("grafana-schema", _HERE) / "node_modules")
    (directory / "types.ts").write_text((_HERE / "types.ts").read_text())
    (directory / "dashboard.ts").write_text(_PROGRAM.format(dashboard=dashboard))
    command = ["node", *_TSC.split(), "--moduleResolution", "bundler", "--pretty", "false", "dashboard.ts"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False).stdout
