"""The command line, and the only package that reads the real clock and random numbers.

Each command is a module that is imported when the command is called, so that `keyturn credential-process`, which SDKs
run, does not import kopf and boto3.
"""

import copy
import importlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import click

from keyturn import __version__


class LazyCommand(NamedTuple):
    """A command: the module that defines it, under the command's own name, and its summary for `--help`.

    `failure` describes when the exit code is 1; empty if the command cannot fail. `extra` is the extra of the Python
    package that has what the module imports; empty if every installation has it.
    """

    module: str
    summary: str
    failure: str = ""
    extra: str = ""

    def load(self, name: str) -> click.Command:
        """Import the module and return the command that it defines under this name.

        If a Python package is not installed, the returned command reports it: completion loads every command.
        """
        try:
            command: click.Command = getattr(importlib.import_module(self.module), name.replace("-", "_"))
        except ModuleNotFoundError as error:
            if str(error.name).startswith("keyturn"):
                raise
            return self._unavailable(name, str(error.name))
        return command

    def _unavailable(self, name: str, module: str) -> click.Command:
        def fail(**_: Any) -> NoReturn:
            raise MissingExtraError(module, self.extra)

        # Replaces --help too, which could not list the options.
        arguments = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
        settings = {"ignore_unknown_options": True}
        return click.Command(name, settings, fail, [arguments], self.summary, add_help_option=False)


class MissingExtraError(click.ClickException):
    """A command cannot be imported. `extra` is the extra of the Python package that has the module, or empty."""

    exit_code = click.UsageError.exit_code

    def __init__(self, module: str, extra: str) -> None:
        package = f"'keyturn[{extra}]'" if extra else "keyturn"
        super().__init__(f"this command needs the module {module}, which is not installed; run pip install {package}")


COMMANDS: Mapping[str, LazyCommand] = {
    "check": LazyCommand(
        "keyturn.cli.check.command",
        "Check manifests of TokenRequests and Pods for mistakes.",
        "if a file has an error, or with --strict also a warning",
    ),
    "crd": LazyCommand("keyturn.cli.manifests", "Print the CustomResourceDefinition."),
    "inject": LazyCommand(
        "keyturn.cli.manifests",
        "Add the sidecar to the Pods in manifests.",
        "if a manifest cannot be read or the sidecar cannot be added",
    ),
    "login": LazyCommand(
        "keyturn.cli.login.command",
        "Sign in for a TokenRequest that runs without a cluster.",
        "if the sign-in fails or the token cannot be stored",
    ),
    "operator": LazyCommand(
        "keyturn.cli.operator",
        "Run the Kubernetes operator.",
        "if the operator cannot start or loses its Lease",
        "operator",
    ),
    "run": LazyCommand(
        "keyturn.cli.run",
        "Renew one TokenRequest without a cluster.",
        "if it cannot start, or with --once if there are no usable credentials",
        "standalone",
    ),
    "sidecar": LazyCommand(
        "keyturn.cli.sidecar", "Serve credentials to the AWS SDKs in a Pod.", "if the sidecar cannot start"
    ),
    "credential-process": LazyCommand(
        "keyturn.cli.credential_process",
        "Print credentials for an AWS SDK's credential_process.",
        "if there are no valid credentials",
    ),
}


def exit_codes(failure: str) -> str:
    """Return the sentence for `--help`."""
    return f"Exit code: 0 on success, {f'1 {failure}, ' if failure else ''}2 for an invalid command line."


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is called."""

    def __init__(self, *args: Any, lazy_commands: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self._lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._lazy_commands:
            return None
        lazy = self._lazy_commands[cmd_name]
        command = copy.copy(lazy.load(cmd_name))
        command.epilog = "\n\n".join(filter(None, (command.epilog, exit_codes(lazy.failure))))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib  # noqa: PLC0415 - an SDK that runs `keyturn credential-process` waits for every import

            if close := difflib.get_close_matches(args[0], self._lazy_commands, n=1):
                raise click.UsageError(f"{error.message} Did you mean {close[0]}?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # click's own implementation would import every command to get its summary.
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self._lazy_commands.items()])


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the real clock


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings=HELP_OPTIONS,
    epilog="For TokenRequests in a cluster, use the kubectl plugin: kubectl keyturn --help.",
)
@click.version_option(__version__, prog_name="keyturn")
def main() -> None:
    """Keep short-lived AWS credentials fresh."""
