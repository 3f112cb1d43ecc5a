"""Selects TokenRequests as kubectl does: by name, as TYPE/NAME, by label, or all."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from keyturn.api.token_request import KIND, PLURAL, SHORT_NAME
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, Object, completing

_TYPES = {KIND.lower(), PLURAL, REQUESTS, f"{KIND.lower()}.{REQUESTS.partition('.')[2]}", SHORT_NAME}


@dataclass(frozen=True, slots=True)
class Selection:
    """The TokenRequests to work with: those with `names`, or those with the labels in `selector`, or all."""

    names: tuple[str, ...]
    selector: str = ""
    all_namespaces: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of `kubectl get`, if there are no names."""
        namespaces = ("--all-namespaces",) if self.all_namespaces else ()
        return (f"--selector={self.selector}", *namespaces) if self.selector else namespaces

    def read(self, cluster: Cluster) -> list[Object]:
        """Read the TokenRequests. Raises ClusterError, which suggests similar names."""
        if self.names:
            return [cluster.get(REQUESTS, name) for name in self.names]
        return cluster.list_objects(REQUESTS, *self.flags)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments of a command that reads: without any, it reads all in the namespace."""

    @functools.wraps(command)
    def with_selection(*, names: tuple[str, ...], selector: str, all_namespaces: bool, **params: Any) -> Any:
        if names and (selector or all_namespaces):
            raise click.UsageError("NAMEs cannot be combined with --selector or --all-namespaces")
        return command(selection=Selection(names, selector, all_namespaces), **params)

    everywhere = click.option("-A", "--all-namespaces", is_flag=True, help="Select TokenRequests in all namespaces.")
    return _arguments(everywhere(with_selection))


def changing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments of a command that changes something: it never selects all by default."""

    @functools.wraps(command)
    def with_selection(*, names: tuple[str, ...], selector: str, select_all: bool, **params: Any) -> Any:
        if bool(names) + bool(selector) + select_all != 1:
            raise click.UsageError("specify either NAMEs, --selector or --all")
        return command(selection=Selection(names, selector), **params)

    select_all = click.option("--all", "select_all", is_flag=True, help="Select all TokenRequests in the namespace.")
    return _arguments(select_all(with_selection))


def _arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    names = click.argument(
        "names", nargs=-1, metavar="[NAME]...", callback=_without_types, shell_complete=completing(REQUESTS)
    )
    selector = click.option("-l", "--selector", default="", metavar="LABELS", help="Select TokenRequests by label.")
    return names(selector(command))


def _without_types(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Turn TYPE/NAME, as `kubectl get -o name` prints it, into NAME."""
    parts = [name.rpartition("/") for name in names]
    for kind, _separator, _name in parts:
        if kind and kind.lower() not in _TYPES:
            raise click.BadParameter(f"{kind} is not a TokenRequest")
    return tuple(name for _kind, _separator, name in parts)
