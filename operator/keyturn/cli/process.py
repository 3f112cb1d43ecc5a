"""How a process that runs for long begins and ends: its clock, its dice, its log, its end."""

import gc
import logging
import os
import random  # noqa: TID251 - the real dice
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import yaml
from pythonjsonlogger.json import JsonFormatter

from keyturn.core.settings import Settings, parse_settings

chance = random.random


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)  # noqa: TID251 - the real clock


def read_settings(path: str | None) -> Settings:
    """Read the file of --config; what is wrong in it is a usage error."""
    if path is None:
        return Settings()
    try:
        return parse_settings(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--config") from error


def log_to_stderr(level: str, form: str) -> None:
    """Log lines of text, or of JSON, from `level` on."""
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


def settle() -> None:
    """Take what is imported by now for what stays: else each full collection looks at all of it again."""
    gc.collect()
    gc.freeze()


def leave(code: int) -> None:
    """Exit at once: Python would first wait, half a minute perhaps, for threads whose calls to AWS hang."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
