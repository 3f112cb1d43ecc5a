"""The command line: settings in, a running shell out; the only place that knows the real clock and dice.

Each command is a file that is read when it is called: what an SDK calls must not pay for kopf and boto3.
"""

import importlib
from collections.abc import Mapping

import click

from keyturn import __version__

COMMANDS: Mapping[str, str] = {
    "check": "Find mistakes in TokenRequests and in pods that use their Secrets, without a cluster.",
    "crd": "Print the CustomResourceDefinition.",
    "inject": "Print manifests with the sidecar in the pods that ask for it.",
    "operator": "Run the operator of a Kubernetes cluster.",
    "run": "Renew one TokenRequest without a cluster.",
    "renew": "Renew one TokenRequest once, for a job.",
    "sidecar": "Give credentials to the AWS SDKs of a pod.",
    "credential-process": "Print credentials for an SDK's credential_process.",
}


class _Commands(click.Group):
    """The commands, each in the file of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click says it so
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"keyturn.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # click would read every command's file for its first line.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="keyturn")
def main() -> None:
    """Keep short-lived AWS credentials fresh."""
