"""The command line: settings in, a running shell out; the only place that knows the real clock and dice.

Each command is a file that is read when it is called: what an SDK calls must not pay for kopf and boto3.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from keyturn import __version__

COMMANDS: Mapping[str, str] = {
    "check": "Find mistakes in TokenRequests and pods, in files.",
    "crd": "Print the CustomResourceDefinition.",
    "inject": "Print manifests with the sidecar in their pods.",
    "operator": "Run the operator of a Kubernetes cluster.",
    "run": "Renew one TokenRequest without a cluster.",
    "renew": "Renew one TokenRequest once, for a job.",
    "sidecar": "Give credentials to the AWS SDKs of a pod.",
    "credential-process": "Print credentials for an SDK's credential_process.",
}


class Commands(click.Group):
    """The commands of `package`, each in the file of its name, told in a line."""

    def __init__(self, *arguments: Any, package: str, lines: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self._package = package
        self._lines = lines

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click says it so
        """Their names."""
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Read the file of a command."""
        if cmd_name not in self._lines:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"{self._package}.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a line for each."""
        # click would read every command's file for its first line.
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines.items()))


@click.group(cls=Commands, package="keyturn.cli", lines=COMMANDS)
@click.version_option(__version__, prog_name="keyturn")
def main() -> None:
    """Keep short-lived AWS credentials fresh."""
