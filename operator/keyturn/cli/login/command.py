"""keyturn login: sign in for a TokenRequest that runs without a cluster."""

import tempfile
from pathlib import Path

import click

from keyturn.api.base import InvalidSpecError
from keyturn.api.exchanges.oauth_client import ClientServiceAccountSpec
from keyturn.api.token_request import KIND, Request, parse
from keyturn.cli import COMMANDS
from keyturn.cli.documents import UnreadableError, read_documents
from keyturn.cli.login.client import ValueReader
from keyturn.cli.login.options import login_options
from keyturn.cli.login.plan import LoginError, plan_login
from keyturn.cli.login.sign_in import LoginOptions, open_session, read_file
from keyturn.cli.options import DIRECTORY, FILE
from keyturn.cli.terminal import echo, printable
from keyturn.standalone.atomic_files import replace_file, write_in_place

# The longest response that a renewal reads.
_RESERVED_BYTES = 64 * 1024


@click.command(help=COMMANDS["login"].summary)
@click.option("--filename", "-f", required=True, metavar="FILE", help="Manifest of the TokenRequest, or - for stdin.")
@click.option(
    "--sources-dir", type=DIRECTORY, required=True, help="Directory with a file NAME/KEY for each Secret key."
)
@click.option(
    "--service-account-token-file", type=FILE, help="Projected token, for clientAssertionFrom.serviceAccount."
)
@login_options
def login(
    *, options: LoginOptions, filename: str, sources_dir: Path, service_account_token_file: Path | None,
    ca_file: Path | None, yes: bool,
) -> None:  # fmt: skip
    def read_token(account: ClientServiceAccountSpec) -> str:
        if service_account_token_file is None:
            raise LoginError(
                f"the client authenticates as ServiceAccount {account.name}: set --service-account-token-file"
            )
        return read_file(service_account_token_file).strip()

    plan = plan_login(_read_request(filename))
    reader = ValueReader(lambda ref: read_file(sources_dir / ref.name / ref.key), read_token)
    session = open_session(plan, options, ca_file, reader)
    files = {name: sources_dir / ref.name / ref.key for name, ref in plan.stores.items()}
    if not yes:
        click.confirm(printable(session.question(" and ".join(map(str, files.values())))), abort=True, err=True)
    try:
        # Before the sign-in, with the space for its result: a refresh token that cannot be stored would be lost.
        for file in files.values():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="..keyturn-", dir=next(iter(files.values())).parent) as directory:
            for name in files:
                write_in_place(Path(directory, name), bytes(_RESERVED_BYTES), 0o600)
            for name, value in session.run().items():
                replace_file(files[name], value.encode(), Path(directory, name))
    except OSError as error:
        raise LoginError(f"{error.filename or sources_dir}: {error.strerror}") from None
    echo(*(f"{file} written" for file in files.values()))


def _read_request(filename: str) -> Request:
    """Read the only TokenRequest of a file. Raises LoginError."""
    try:
        bodies = [document.body for document in read_documents(filename)]
        requests = [parse(body) for body in bodies if isinstance(body, dict) and body.get("kind") == KIND]
    except UnreadableError as error:
        raise LoginError(str(error)) from None
    except InvalidSpecError as error:
        raise LoginError(f"{filename}: {error.message}") from None
    if len(requests) != 1:
        raise LoginError(f"{filename}: expected one TokenRequest, found {len(requests)}")
    return requests[0]
