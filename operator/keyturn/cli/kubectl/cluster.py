"""The cluster, as kubectl lets its user see it."""

import difflib
import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from keyturn.api.base import GROUP
from keyturn.api.token_request import PLURAL

REQUESTS = f"{PLURAL}.{GROUP}"
_Command = TypeVar("_Command", bound=Callable[..., Any])
Body = dict[str, Any]
_FLAGS = frozenset({"namespace", "context", "kubeconfig"})

_NOT_FOUND = re.compile(r"\(NotFound\): \S+ \"(.*)\" not found")
# What kubectl says, and what to do about it.
_ADVICE: Mapping[str, str] = {
    r"doesn't have a resource type|could not find the requested resource": (
        "this cluster has no TokenRequests: is Keyturn installed here? Its CRD is in the chart (crds.enabled)"
    ),
    r"\(Forbidden\)": "ask who runs the cluster for that right; `kubectl auth can-i --list` shows those you have",
    # It asks for a name or a browser, and nobody can answer here.
    r"Unauthorized|provide credentials|^(Please enter .*)?EOF$": "log in first, as by `kubectl get pods`",
    r"[Uu]nable to connect|was refused|no such host|i/o timeout|deadline exceeded": (
        "is that the right cluster? `kubectl config current-context` names it, --context chooses another"
    ),
    r"timed out waiting": "it was asked for and not tried yet: does an operator work in this namespace?",
    r"context .* does not exist|no context exists": "`kubectl config get-contexts` lists those there are",
}


class ClusterError(click.ClickException):
    """What kubectl could not do, in its words, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A namespace of a cluster, seen through kubectl with these flags of its own."""

    flags: tuple[str, ...] = ()

    def get(self, kind: str, name: str) -> Body:
        """Get an object. Raises ClusterError, for one that is not there with names that are like it."""
        done = self._run("get", kind, name, "--output=json")
        if done.returncode == 0:
            return _read(done.stdout)
        if _NOT_FOUND.search(done.stderr):
            raise ClusterError(f"{_said(done.stderr)}; {self._instead(kind, name)}")
        raise _refusal(done.stderr)

    def find(self, kind: str, *more: str) -> list[Body]:
        """List objects; raises ClusterError."""
        items: list[Body] = _read(self.run("get", kind, "--output=json", *more))["items"]
        return items

    def watch(self, kind: str, *more: str) -> Iterator[Body]:
        """Yield objects as they are and each time that they change, until kubectl ends; raises ClusterError."""
        command = self._command("get", kind, "--output=json", "--watch", *more)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        with subprocess.Popen(  # noqa: S603 - kubectl, and arguments of its own user
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
        ) as kubectl:
            try:
                yield from _objects(kubectl.stdout or ())
                said = kubectl.stderr.read() if kubectl.stderr else ""
            except BaseException:
                # By a signal, or because nobody reads any more: it would wait for a change, for ever.
                kubectl.terminate()
                raise
        if kubectl.returncode:
            raise _refusal(said)

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints; raises ClusterError."""
        done = self._run(*arguments, stdin=stdin)
        if done.returncode:
            raise _refusal(done.stderr)
        return done.stdout

    def names(self, kind: str, *more: str) -> list[str]:
        """The names there are, as far as the user may know them: none where not."""
        done = self._run("get", kind, "--output=jsonpath={.items[*].metadata.name}", *more)
        return done.stdout.split() if done.returncode == 0 else []

    def _instead(self, kind: str, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(kind), cutoff=0.5)
        if near:
            return f"did you mean {' or '.join(near)}?"
        place = "--output=jsonpath={.items[*].metadata.namespace}"
        elsewhere = self._run("get", kind, "--all-namespaces", f"--field-selector=metadata.name={name}", place)
        found = elsewhere.stdout.split() if elsewhere.returncode == 0 else []
        return f"there is one in namespace {', '.join(found)}" if found else "-n chooses another namespace"

    def _run(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(  # noqa: S603 - the same
                self._command(*arguments), input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                capture_output=True, text=True, check=False, env=_environment(),
            )  # fmt: skip
        except FileNotFoundError:
            raise ClusterError("kubectl is not on the PATH, and it is what speaks to the cluster") from None

    def _command(self, *arguments: str) -> list[str]:
        return ["kubectl", *arguments, *self.flags]


def cluster_options(command: _Command) -> Callable[..., Any]:
    """Give a command kubectl's flags that say which cluster and namespace, as its argument `cluster`."""

    @functools.wraps(command)
    def with_cluster(**given: Any) -> Any:
        return command(cluster=_named(given), **{key: given[key] for key in given.keys() - _FLAGS})

    for names, explained in (
        (("-n", "--namespace"), "Default: that of the context."),
        (("--context",), "A context of the kubeconfig. Default: the current one."),
        (("--kubeconfig",), "Default: as kubectl's own."),
    ):
        with_cluster = click.option(*names, help=explained)(with_cluster)
    return with_cluster


def completing(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Complete a name of this kind from the cluster."""

    def names(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        found = _named(context.params).names(kind, "--request-timeout=2s")
        return [CompletionItem(name) for name in found if name.startswith(begun)]

    return names


def _named(given: Mapping[str, Any]) -> Cluster:
    """The cluster that the flags of a command name."""
    return Cluster(tuple(f"--{flag}={given[flag]}" for flag in sorted(_FLAGS) if given.get(flag)))


def _environment() -> dict[str, str]:
    # Its errors are read, so they must be in English; aliases of the user must not change what it prints.
    return os.environ | {"LC_ALL": "C", "KUBERC": "off"}


def _read(text: str) -> Body:
    body: Body = json.loads(text)
    return body


def _objects(lines: Any) -> Iterator[Body]:
    """The JSON objects of a stream in which each ends with a brace at the begin of a line."""
    held: list[str] = []
    for line in lines:
        held.append(line)
        if line.rstrip() == "}":
            yield _read("".join(held))
            held.clear()


def _said(stderr: str) -> str:
    """The last thing that kubectl says; what comes before are its tries."""
    lines = [line for line in stderr.splitlines() if line.strip() and not re.match(r"[EWI]\d{4} |Warning:", line)]
    return (lines or ["kubectl failed"])[-1].removeprefix("error: ")


def _refusal(stderr: str) -> ClusterError:
    said = _said(stderr)
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, said)), "")
    return ClusterError(f"{said}; {advice}" if advice else said)
