"""What Cognito remembers: identity pools, and the identities in them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pool:
    """An identity pool: the issuers that it knows (URLs), and the roles of who signed in, the first usual."""

    pool_id: str
    account: str
    issuers: frozenset[str]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity, and the login that it belongs to."""

    identity_id: str
    pool_id: str
    provider: str
    subject: str
