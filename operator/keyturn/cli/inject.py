"""keyturn inject."""

import sys

import click

from keyturn import __version__
from keyturn.cli import COMMANDS
from keyturn.cli.documents import Document, UnreadableError, read_documents, written
from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from keyturn.core.pods.manifest import ManifestError


@click.command(help=COMMANDS["inject"])
@click.option("--filename", "-f", required=True, metavar="FILE", help="Manifests in YAML or JSON; - for stdin.")
# No environment variables: beside a Service named keyturn, Kubernetes itself sets KEYTURN_PORT.
@click.option("--image", default=f"keyturn:{__version__}", show_default=True, help="Of the sidecar.")
@click.option(
    "--port",
    type=click.IntRange(1024, 65534),
    default=9911,
    show_default=True,
    help="Of the sidecar's endpoint on loopback; its probes have the next one.",
)
def inject(filename: str, image: str, port: int) -> None:
    """Print the manifests of a file, with the sidecar in the pods that ask for it."""
    try:
        shown = [_shown(document, SidecarConfig(image, port=port)) for document in read_documents(filename)]
    except (UnreadableError, ManifestError) as error:
        click.echo(f"keyturn: {error}", err=True)
        sys.exit(1)
    click.echo("".join(shown), nl=False)


def _shown(document: Document, sidecar: SidecarConfig) -> str:
    if isinstance(document.body, dict):
        try:
            changed = inject_sidecar(document.body, sidecar)
        except ManifestError as error:
            raise ManifestError(f"{document.place} {error}") from None
        if changed != document.body:
            return written(changed)
    dashes = "" if document.number == 1 or "---" in document.text else "---\n"
    return dashes + document.text.rstrip("\n") + "\n"
