"""What a renewal consumes, and where the replacement is stored."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from keyturn.api.exchanges.base import ExchangeSpec
from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.source import SecretKeyRef, SourceSpec


class Consumption(NamedTuple):
    """The exchange that consumes its input: a refresh token or a single-use credential.

    `ref` is where the user stores that input, `secret` the token Secret, where Keyturn stores the token from the
    response. `is_single_use`: the response need not contain a replacement.
    """

    step: ExchangeSpec
    ref: SecretKeyRef
    secret: str
    is_single_use: bool

    @property
    def source_id(self) -> str:
        """Identifies the tokens that may replace each other: the source key and, for single-use input, the recipient.

        An assertion may be sent to several recipients; a refresh token that one of them returned must not be.
        """
        source = f"{self.ref.name}/{self.ref.key}"
        if not (self.is_single_use and self.step.recipient):
            return source
        return f"{source} {hashlib.sha256(self.step.recipient.encode()).hexdigest()[:16]}"


def consumption(source: SourceSpec, exchanges: Iterable[StepSpec]) -> Consumption | None:
    """Return the exchange that consumes its input. The rules of the API allow at most one."""
    steps = [step.exchange for step in exchanges]
    for step in steps:
        if step.single_use_credential:
            ref = step.single_use_credential.secret_key_ref
            return Consumption(step, ref, f"{ref.name}-keyturn", is_single_use=True)
    # A ServiceAccount token may be consumed: each renewal requests a new one.
    if source.token is None or source.token.secret_key_ref is None:
        return None
    for step in steps:
        if step.is_refresh_grant or step.is_token_single_use:
            ref, secret = source.token.secret_key_ref, source.token.token_secret
            return Consumption(step, ref, secret, is_single_use=not step.is_refresh_grant)
        if "token" in step.PRODUCES:
            return None
    return None
