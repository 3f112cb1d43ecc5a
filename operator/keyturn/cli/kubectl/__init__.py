"""kubectl keyturn: a kubectl plugin to inspect and renew TokenRequests.

It runs kubectl as a subprocess, because kubectl handles the user's kubeconfig, login and proxy, and starts ten times
faster than the Python client can be imported.
"""

import os
import sys
from collections.abc import Mapping

import click
from click.shell_completion import ShellComplete

from keyturn import __version__
from keyturn.cli import COMMANDS as KEYTURN_COMMANDS
from keyturn.cli import HELP_OPTIONS, LazyCommand, LazyGroup
from keyturn.cli.kubectl.cluster import kubectl_flags
from keyturn.cli.terminal import echo, printable

_KUBECTL_FAILS = "if kubectl fails"
COMMANDS: Mapping[str, LazyCommand] = {
    "status": LazyCommand(
        "keyturn.cli.kubectl.request_commands",
        "Show the status of TokenRequests.",
        f"{_KUBECTL_FAILS} (0 even if a TokenRequest is not Ready)",
    ),
    "renew": LazyCommand(
        "keyturn.cli.kubectl.request_commands",
        "Renew TokenRequests now.",
        f"{_KUBECTL_FAILS}, or with --wait if a renewal fails",
    ),
    "suspend": LazyCommand(
        "keyturn.cli.kubectl.request_commands", "Suspend the renewal of TokenRequests.", _KUBECTL_FAILS
    ),
    "resume": LazyCommand(
        "keyturn.cli.kubectl.request_commands", "Resume the renewal of TokenRequests.", _KUBECTL_FAILS
    ),
    "events": LazyCommand("keyturn.cli.kubectl.request_commands", "Show the Events of TokenRequests.", _KUBECTL_FAILS),
    "doctor": LazyCommand(
        "keyturn.cli.kubectl.operator_commands",
        "Check whether an operator renews in the namespace.",
        "if a check has the result error (0 if there are only warnings)",
    ),
    "version": LazyCommand(
        "keyturn.cli.kubectl.operator_commands", "Show the versions of the client and the operators.", _KUBECTL_FAILS
    ),
    "explain": LazyCommand(
        "keyturn.cli.kubectl.explain_command",
        "Explain a reason or an alert, offline.",
        "if there is no such reason or alert",
    ),
    "login": LazyCommand(
        "keyturn.cli.kubectl.login_command",
        "Sign in for a TokenRequest and store the token in its source Secret.",
        "if the sign-in fails, the token cannot be stored, or the renewal after it fails",
    ),
    "inspect": LazyCommand(
        "keyturn.cli.kubectl.secret_commands", "Describe a Secret without showing its values.", _KUBECTL_FAILS
    ),
    "check": KEYTURN_COMMANDS["check"],
    "forget": LazyCommand(
        "keyturn.cli.kubectl.secret_commands",
        "Delete a token Secret, so that Keyturn uses the source Secret again.",
        "if the Secret is not deleted",
    ),
}
_COMPLETION_VARIABLE = "_KUBECTL_KEYTURN_COMPLETE"
# A completion directive of cobra, the command-line library of kubectl.
_NO_FILE_COMPLETION = ":4"


@click.group(cls=LazyGroup, lazy_commands=COMMANDS, context_settings=HELP_OPTIONS)
@click.version_option(__version__, prog_name="kubectl keyturn")
@kubectl_flags
def plugin(**_: str | None) -> None:
    """Inspect and renew the short-lived AWS credentials that Keyturn keeps fresh."""


def main() -> None:
    """Run the plugin."""
    # Shells complete the name of the program; kubectl calls `complete` instead.
    name = "kubectl-keyturn" if _COMPLETION_VARIABLE in os.environ else "kubectl keyturn"
    plugin(prog_name=name, complete_var=_COMPLETION_VARIABLE)


def complete() -> None:
    """Print completions. kubectl runs kubectl_complete-keyturn with the words typed so far; the last is incomplete."""
    *words, unfinished = sys.argv[1:] or [""]
    completion = ShellComplete(plugin, {}, "kubectl keyturn", _COMPLETION_VARIABLE)
    for item in completion.get_completions(words, unfinished):
        click.echo("\t".join(printable(part) for part in (item.value, item.help) if part))  # noqa: TID251
    echo(_NO_FILE_COMPLETION)
