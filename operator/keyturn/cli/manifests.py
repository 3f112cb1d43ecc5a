"""keyturn crd and keyturn inject, which print manifests."""

import sys
from typing import Any

import click
import yaml

from keyturn import __version__
from keyturn.api.crd import crd as token_request_crd
from keyturn.cli import COMMANDS
from keyturn.cli.documents import Document, UnreadableError, dump_document, read_documents
from keyturn.cli.terminal import echo
from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from keyturn.core.pods.manifest import ManifestError


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


@click.command(help=COMMANDS["crd"].summary)
def crd() -> None:
    click.echo(yaml.dump(token_request_crd(), Dumper=_WithoutAliases, sort_keys=False, width=120), nl=False)  # noqa: TID251 - our own text


@click.command(help=COMMANDS["inject"].summary)
@click.option("--filename", "-f", required=True, metavar="FILE", help="Manifests as YAML or JSON, or - for stdin.")
# Not environment variables: Kubernetes sets KEYTURN_PORT in the namespace of a Service named keyturn.
@click.option("--image", default=f"keyturn-sidecar:{__version__}", show_default=True, help="Sidecar image.")
@click.option(
    "--port",
    type=click.IntRange(1024, 65534),
    default=9911,
    show_default=True,
    help="Port of the credentials endpoint on loopback. Probes and metrics use the next port.",
)
def inject(filename: str, image: str, port: int) -> None:
    """Print the manifests, with the sidecar added to the Pods that have the annotation keyturn.dev/inject."""
    try:
        documents = [_with_sidecar(document, SidecarConfig(image, port=port)) for document in read_documents(filename)]
    except (UnreadableError, ManifestError) as error:
        echo(f"keyturn: {error}", err=True)
        sys.exit(1)
    # Not escaped, because it is input for kubectl. YAML with control characters has been refused before.
    click.echo("".join(documents), nl=False)  # noqa: TID251


def _with_sidecar(document: Document, sidecar: SidecarConfig) -> str:
    if isinstance(document.body, dict):
        try:
            changed = inject_sidecar(document.body, sidecar)
        except ManifestError as error:
            raise ManifestError(f"{document.location} {error}") from None
        if changed != document.body:
            return dump_document(changed)
    dashes = "" if document.number == 1 or "---" in document.text else "---\n"
    return dashes + document.text.rstrip("\n") + "\n"
