"""The file of --config."""

import click
import msgspec

from keyturn.cli.documents import UnreadableError, read_documents
from keyturn.core.settings import Settings, parse_settings


def read_settings(path: str | None) -> Settings:
    """Read the file; what is wrong in it is a usage error, of one line and without the line that it is in."""
    if path is None:
        return Settings()
    try:
        bodies = [document.body for document in read_documents(path)]
        if len(bodies) > 1:
            raise click.BadParameter(f"{path}: it holds {len(bodies)} documents", param_hint="--config")
        return parse_settings(bodies[0] if bodies else None)
    except UnreadableError as error:
        raise click.BadParameter(str(error), param_hint="--config") from error
    except msgspec.ValidationError as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--config") from error
