"""Access to the cluster through kubectl, with the user's own permissions."""

import difflib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from keyturn.api.base import GROUP
from keyturn.api.token_request import PLURAL
from keyturn.cli.options import Command
from keyturn.cli.terminal import printable

REQUESTS = f"{PLURAL}.{GROUP}"
Object = dict[str, Any]
_FLAGS = frozenset({"namespace", "context", "kubeconfig"})

_NOT_FOUND = re.compile(r"\(NotFound\): \S+ \"(.*)\" not found")
# Patterns of kubectl's error messages, and what the user can do.
_ADVICE: Mapping[str, str] = {
    r"doesn't have a resource type|could not find the requested resource": (
        "this cluster has no TokenRequest CRD; is Keyturn installed? The chart installs it with crds.enabled"
    ),
    r"\(Forbidden\)": "ask your cluster administrator for this permission; `kubectl auth can-i --list` shows yours",
    # A login plugin tried to prompt for a name or to open a browser, but stdin is closed.
    r"Unauthorized|provide credentials|^(Please enter .*)?EOF$": "log in first, for example with `kubectl get pods`",
    r"[Uu]nable to connect|was refused|no such host|i/o timeout|deadline exceeded": (
        "is this the right cluster? `kubectl config current-context` shows it; --context selects another"
    ),
    r"timed out waiting": "no operator has picked up the request yet; is one running for this namespace?",
    r"context .* does not exist|no context exists": "`kubectl config get-contexts` lists the contexts",
}


class ClusterError(click.ClickException):
    """kubectl failed. The message is kubectl's, followed by what the user can do."""

    def format_message(self) -> str:
        """Return the text to print. Line breaks separate messages about several objects."""
        return "\n".join(map(printable, self.message.split("\n")))


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster and a namespace, accessed through kubectl with these additional flags."""

    flags: tuple[str, ...] = ()

    def get(self, kind: str, name: str) -> Object:
        """Get an object. Raises ClusterError, which suggests similar names if the object does not exist."""
        # The name may come from an annotation, and must not be a flag of kubectl.
        result = self._run("get", kind, "--output=json", "--", name)
        if result.returncode == 0:
            return _parse(result.stdout)
        if _NOT_FOUND.search(result.stderr):
            raise ClusterError(f"{_last_message(result.stderr)}; {self._suggestion(kind, name)}")
        raise cluster_error(result.stderr)

    def list_objects(self, kind: str, *arguments: str) -> list[Object]:
        """List objects. Raises ClusterError."""
        items: list[Object] = _parse(self.run("get", kind, "--output=json", *arguments))["items"]
        return items

    def watch(self, kind: str, *arguments: str) -> Iterator[Object]:
        """Yield the current objects, then each changed object, until kubectl ends. Raises ClusterError."""
        command = self._command("get", kind, "--output=json", "--watch", *arguments)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        # stderr is a file: kubectl would block once its warnings filled a pipe, which would be read only at the end.
        with tempfile.TemporaryFile("w+") as stderr, subprocess.Popen(  # noqa: S603 - arguments of the user who runs this
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=_environment()
        ) as kubectl:  # fmt: skip
            try:
                yield from objects_in_stream(kubectl.stdout or ())
            except BaseException:
                # After a signal or a closed pipe, kubectl would continue to wait for changes.
                kubectl.terminate()
                raise
            if kubectl.wait():
                stderr.seek(0)
                raise cluster_error(stderr.read())

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its stdout. Raises ClusterError."""
        result = self._run(*arguments, stdin=stdin)
        if result.returncode:
            raise cluster_error(result.stderr)
        return result.stdout

    def names(self, kind: str, *arguments: str) -> list[str]:
        """Return the names of all objects of a kind, or none if the user may not list them."""
        result = self._run("get", kind, "--output=jsonpath={.items[*].metadata.name}", *arguments)
        return result.stdout.split() if result.returncode == 0 else []

    def _suggestion(self, kind: str, name: str) -> str:
        matches = difflib.get_close_matches(name, self.names(kind), cutoff=0.5)
        if matches:
            return f"did you mean {' or '.join(matches)}?"
        output = "--output=jsonpath={.items[*].metadata.namespace}"
        result = self._run("get", kind, "--all-namespaces", f"--field-selector=metadata.name={name}", output)
        namespaces = result.stdout.split() if result.returncode == 0 else []
        return f"it exists in namespace {', '.join(namespaces)}" if namespaces else "-n selects another namespace"

    def _run(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(  # noqa: S603 - as above
                self._command(*arguments), input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                capture_output=True, text=True, check=False, env=_environment(),
            )  # fmt: skip
        except FileNotFoundError:
            raise ClusterError("kubectl was not found on the PATH; the plugin needs it to access the cluster") from None

    def _command(self, *arguments: str) -> list[str]:
        return ["kubectl", *self.flags, *arguments]


def cluster_options(command: Command) -> Callable[..., Any]:
    """Add kubectl's flags for the cluster and the namespace. The command receives a Cluster as argument `cluster`."""

    @functools.wraps(command)
    def with_cluster(**params: Any) -> Any:
        # As in kubectl, the flags may also be before the command.
        before = click.get_current_context().find_root().params
        flags = {flag: params[flag] or before.get(flag) for flag in _FLAGS}
        return command(cluster=_cluster(flags), **{key: params[key] for key in params.keys() - _FLAGS})

    return kubectl_flags(with_cluster)


def kubectl_flags(command: Command) -> Command:
    """Add kubectl's flags for the cluster and the namespace."""
    for names, text in (
        (("-n", "--namespace"), "Namespace. Default: the namespace of the context."),
        (("--context",), "Context of the kubeconfig. Default: the current context."),
        (("--kubeconfig",), "Path of the kubeconfig. Default: the one that kubectl uses."),
    ):
        command = click.option(*names, help=text)(command)
    return command


def completing(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a click completion function for the names of this kind."""

    def complete(context: click.Context, _: click.Parameter, prefix: str) -> list[CompletionItem]:
        flags = context.find_root().params | {key: value for key, value in context.params.items() if value}
        names = _cluster(flags).names(kind, "--request-timeout=2s")
        return [CompletionItem(name) for name in names if name.startswith(prefix)]

    return complete


def objects_in_stream(lines: Any) -> Iterator[Object]:
    """Split a stream of indented JSON objects: each ends with a brace at the start of a line."""
    buffer: list[str] = []
    for line in lines:
        buffer.append(line)
        if line.rstrip() == "}":
            yield _parse("".join(buffer))
            buffer.clear()


def cluster_error(stderr: str) -> ClusterError:
    """Turn kubectl's stderr into one message with advice."""
    message = _last_message(stderr)
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, message)), "")
    return ClusterError(f"{message}; {advice}" if advice else message)


def _cluster(params: Mapping[str, Any]) -> Cluster:
    return Cluster(tuple(f"--{flag}={params[flag]}" for flag in sorted(_FLAGS) if params.get(flag)))


def _environment() -> dict[str, str]:
    # _ADVICE matches English messages, and aliases in the user's kuberc could change the output.
    return os.environ | {"LC_ALL": "C", "KUBERC": "off"}


def _parse(text: str) -> Object:
    try:
        body: Object = json.loads(text)
    except RecursionError:
        raise ClusterError("kubectl returned an object that is nested too deeply") from None
    return body


def _last_message(stderr: str) -> str:
    """Return the last line that is neither a log line nor a warning; earlier lines are about retries."""
    lines = [line for line in stderr.splitlines() if line.strip() and not re.match(r"[EWI]\d{4} |Warning:", line)]
    return (lines or ["kubectl failed"])[-1].removeprefix("error: ")
