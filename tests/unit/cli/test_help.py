"""The help of every command states the exit codes, and the examples in it and on its page can be parsed."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from keyturn.cli import COMMANDS, LazyGroup, main
from keyturn.cli.kubectl import COMMANDS as PLUGIN_COMMANDS
from keyturn.cli.kubectl import plugin

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
EXAMPLES = re.findall(r"(?m)^(?:kubectl )?keyturn .*", "".join(re.findall(r"(?s)```sh\n(.*?)```", PAGE.read_text())))
ALL = [*((main, name) for name in COMMANDS), *((plugin, name) for name in PLUGIN_COMMANDS)]


@pytest.mark.parametrize(("group", "name"), ALL, ids=lambda value: value if isinstance(value, str) else value.name)
def test_help_states_the_exit_codes(group: LazyGroup, name: str) -> None:
    result = CliRunner().invoke(group, [name, "--help"])

    assert result.exit_code == 0
    assert " ".join(result.output.split()).count("Exit code: 0 on success, ") == 1


# `sidecar` passes options on to the command of its mode.
@pytest.mark.parametrize("name", ["check", "sidecar"])
def test_unknown_option_has_exit_code_2(name: str) -> None:
    assert CliRunner().invoke(main, [name, "--no-such-option"]).exit_code == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_can_be_parsed(example: str) -> None:
    program, _, line = example.rpartition("keyturn ")
    name, *arguments = shlex.split(line, comments=True)
    context = click.Context(plugin if program else main)
    command = context.command.get_command(context, name)  # type: ignore[attr-defined]

    assert command.make_context(name, arguments, parent=context)


def test_examples_are_those_of_the_help() -> None:
    assert {example.split("keyturn ")[1].split()[0] for example in EXAMPLES} >= set(PLUGIN_COMMANDS) - {"check"}
