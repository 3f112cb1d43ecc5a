"""kubectl keyturn: what people do with TokenRequests, as a plugin of kubectl.

kubectl itself speaks to the cluster, in a process of its own: it has the kubeconfig, the login and the proxy of
the user, and it starts in a tenth of the time that the Python client needs to be imported.
"""

import os
import sys
from collections.abc import Mapping

import click
from click.shell_completion import ShellComplete

from keyturn import __version__
from keyturn.cli import COMMANDS as KEYTURN
from keyturn.cli import Commands

COMMANDS: Mapping[str, str] = {
    "status": "Show how TokenRequests are, and what they wait for.",
    "renew": "Renew now.",
    "inspect": "Show what a Secret is and holds, without its values.",
    "check": KEYTURN["check"],
    "forget": "Delete a token Secret: start again from the source.",
}
_VARIABLE = "_KUBECTL_KEYTURN_COMPLETE"
_NO_FILES = ":4"  # a directive of cobra, which kubectl is made with


@click.group(cls=Commands, package="keyturn.cli.kubectl", lines=COMMANDS)
@click.version_option(__version__, prog_name="kubectl keyturn")
def plugin() -> None:
    """Look at and renew the short-lived AWS credentials that Keyturn keeps fresh."""


def main() -> None:
    """Run the plugin."""
    # A shell completes the program's own name; kubectl asks `complete` below.
    name = "kubectl-keyturn" if _VARIABLE in os.environ else "kubectl keyturn"
    plugin(prog_name=name, complete_var=_VARIABLE)


def complete() -> None:
    """Answer kubectl, which runs kubectl_complete-keyturn with the words so far, the last one unfinished."""
    *words, unfinished = sys.argv[1:] or [""]
    completion = ShellComplete(plugin, {}, "kubectl keyturn", _VARIABLE)
    for item in completion.get_completions(words, unfinished):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(_NO_FILES)
