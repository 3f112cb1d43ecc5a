"""What a renewal uses up, and where that is kept."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from keyturn.api.exchanges.base import ExchangeSpec
from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.source import SecretKeyRef, SourceSpec, TokenSourceSpec


class Consumption(NamedTuple):
    """The one step that uses up what it is given: a refresh token, or what works only once.

    `ref` is where the user hands it in, `secret` the token Secret, where what came of it is kept. `once`: the
    issuer need not answer anything to go on with.
    """

    step: ExchangeSpec
    ref: SecretKeyRef
    secret: str
    once: bool

    @property
    def source_id(self) -> str:
        """Whose token is kept: the source's, and where it works only once, what this party answered for it.

        An assertion may be shown to several; a refresh token that one of them answered must not.
        """
        source = f"{self.ref.name}/{self.ref.key}"
        party = hashlib.sha256(self.step.party.encode()).hexdigest()[:16] if self.once and self.step.party else ""
        return f"{source} {party}".rstrip()


def consumption(source: SourceSpec, exchanges: Iterable[StepSpec]) -> Consumption | None:
    """Find the step that uses something up; the rules of the API see to it that there is one at most."""
    steps = [exchange.exchange for exchange in exchanges]
    for step in steps:
        if step.proof:
            ref = step.proof.secret_key_ref
            return Consumption(step, ref, f"{ref.name}-keyturn", once=True)
    return _of_token(source.token, steps) if source.token else None


def _of_token(token: TokenSourceSpec, steps: Iterable[ExchangeSpec]) -> Consumption | None:
    """Find the step that uses up the source token: nothing before it gives another one.

    The token of a service account is made anew for each renewal: it may be used up.
    """
    if token.secret_key_ref is None:
        return None
    for step in steps:
        if step.consumes or step.consumes_token:
            return Consumption(step, token.secret_key_ref, token.token_secret, once=not step.consumes)
        if "token" in step.PRODUCES:
            return None
    return None
