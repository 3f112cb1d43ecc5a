"""The file of --config."""

from pathlib import Path

import click
import msgspec
import yaml

from keyturn.core.settings import Settings, parse_settings


def read_settings(path: str | None) -> Settings:
    """Read the file; what is wrong in it is a usage error."""
    if path is None:
        return Settings()
    try:
        return parse_settings(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--config") from error
