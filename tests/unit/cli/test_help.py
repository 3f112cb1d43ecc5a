"""The help of every command: it states the exit codes, and examples name existing commands and options."""

import shlex

import click
import pytest
from click.testing import CliRunner

from keyturn.cli import COMMANDS, LazyGroup, main
from keyturn.cli.kubectl import COMMANDS as PLUGIN_COMMANDS
from keyturn.cli.kubectl import plugin

ALL = [*((main, name) for name in COMMANDS), *((plugin, name) for name in PLUGIN_COMMANDS)]


@pytest.mark.parametrize(("group", "name"), ALL, ids=lambda value: value if isinstance(value, str) else value.name)
def test_help_states_the_exit_codes(group: LazyGroup, name: str) -> None:
    result = CliRunner().invoke(group, [name, "--help"])

    assert result.exit_code == 0
    assert " ".join(result.output.split()).count("Exit code: 0 on success, ") == 1


@pytest.mark.parametrize(("group", "name"), ALL, ids=lambda value: value if isinstance(value, str) else value.name)
def test_unknown_option_has_exit_code_2(group: LazyGroup, name: str) -> None:
    # `sidecar` passes options on to the command of its mode.
    assert CliRunner().invoke(group, [name, "--no-such-option"]).exit_code == 2


@pytest.mark.parametrize(("group", "name"), ALL, ids=lambda value: value if isinstance(value, str) else value.name)
def test_examples_can_be_parsed(group: LazyGroup, name: str) -> None:
    context = click.Context(group)
    command = group.get_command(context, name)
    assert command
    for line in (command.epilog or "").splitlines():
        if line.startswith(("  keyturn ", "  kubectl keyturn ")):
            arguments = shlex.split(line.split("keyturn ", 1)[1], comments=True)
            assert arguments[0] == name
            command.make_context(name, arguments[1:], parent=context)
