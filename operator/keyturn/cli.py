"""The command line: settings in, a running shell out; the only place that knows the real clock and dice."""

import asyncio
import gc
import logging
import os
import random  # noqa: TID251 - the real dice
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import yaml
from pythonjsonlogger.json import JsonFormatter

from keyturn import __version__
from keyturn.core.crd import crd as token_request_crd
from keyturn.core.settings import Settings, parse_settings

Command = TypeVar("Command", bound=Callable[..., Any])


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that is also an environment variable: --log-level is KEYTURN_LOG_LEVEL."""
    variable = "KEYTURN_" + names[0].partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, show_default=True, **attributes)


@click.group()
@click.version_option(__version__, prog_name="keyturn")
def main() -> None:
    """Keep short-lived AWS credentials fresh."""


@main.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    click.echo(yaml.safe_dump(token_request_crd(), sort_keys=False, width=120), nl=False)


@main.command()
@option("--namespace", multiple=True, help="Work in this namespace only; may be repeated. Default: all.")
@option("--config", type=click.Path(exists=True, dir_okay=False), help="A YAML file of settings.")
@option("--kubeconfig", type=click.Path(dir_okay=False), help="Default: the pod's service account.")
@option("--workers", type=click.IntRange(1, 256), default=16, help="How many requests are looked at at once.")
@option("--listen", default="0.0.0.0:8080", metavar="HOST:PORT", help="Of /metrics, /healthz and /readyz.")
@option("--leader-elect/--no-leader-elect", default=True, help="Renew only while holding the Lease.")
@option("--lease-name", default="keyturn", help="Name of the Lease.")
@option("--lease-namespace", help="Default: the pod's own.")
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@option("--log-format", type=click.Choice(["text", "json"]), default="text")
def operator(
    log_level: str, log_format: str, config: str | None, namespace: tuple[str, ...], **place: Any
) -> None:
    """Run the operator of a Kubernetes cluster."""
    # Here and not above: kopf, boto3 and the Kubernetes client cost half a second that --version need not pay.
    from keyturn.kube.leadership import LostLeaseError  # noqa: PLC0415
    from keyturn.kube.shell import NoClusterError, Place, Shell  # noqa: PLC0415

    # The API server keeps objects that are nested 10,000 deep, and anybody may make one: it must be readable.
    sys.setrecursionlimit(40_000)
    _log_to_stderr(log_level, log_format)
    shell = Shell(Place(namespaces=namespace, **place), _settings(config), _now, random.random)
    log = logging.getLogger("keyturn")
    # What was imported stays for ever: without this each full collection looks at all of it again.
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(shell.run())
    except NoClusterError as error:
        log.error("%s", error)  # noqa: TRY400 - one line, not a traceback
        sys.exit(1)
    except LostLeaseError as error:
        log.error("%s", error)  # noqa: TRY400
        _leave(1)
    _leave(0)


def _leave(code: int) -> None:
    """Exit at once: Python would first wait, half a minute perhaps, for threads whose calls to AWS hang."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _settings(path: str | None) -> Settings:
    if path is None:
        return Settings()
    try:
        return parse_settings(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--config") from error


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the real clock


def _log_to_stderr(level: str, form: str) -> None:
    handler = logging.StreamHandler()
    if form == "json":
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Never at debug level: botocore prints requests and answers with the tokens in them, kopf whole objects.
    for name in ("botocore", "boto3", "urllib3", "kopf", "aiohttp", "asyncio", "kubernetes"):
        logging.getLogger(name).setLevel(logging.WARNING)
