"""Reads the settings file of --config."""

import click
import msgspec

from keyturn.cli.documents import UnreadableError, read_documents
from keyturn.core.settings import Settings, parse_settings


def read_settings(path: str | None) -> Settings:
    """Read the settings; None means the defaults. Raises click.BadParameter, which never quotes the file."""
    if path is None:
        return Settings()
    try:
        bodies = [document.body for document in read_documents(path)]
        if len(bodies) > 1:
            raise click.BadParameter(f"{path}: expected one document, found {len(bodies)}", param_hint="--config")
        return parse_settings(bodies[0] if bodies else None)
    except UnreadableError as error:
        raise click.BadParameter(str(error), param_hint="--config") from error
    except msgspec.ValidationError as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--config") from error
