"""What the first exchange starts from."""

from typing import Annotated

from msgspec import Meta

from keyturn.core.model.part import Key, Name, Part


class SecretKeyRef(Part, frozen=True):
    """A key of a Secret in the namespace of the TokenRequest."""

    name: Annotated[Name, Meta(description="Name of the Secret.")]
    key: Annotated[Key, Meta(description="Key in its data.")]


class TokenSource(Part, frozen=True):
    """A long-lived token. White space and quotes around it are dropped."""

    secret_key_ref: Annotated[SecretKeyRef, Meta(description="Where the token is read, anew for each renewal.")]


class Source(Part, frozen=True):
    """The long-lived proof that short-lived credentials are made from."""

    token: Annotated[TokenSource, Meta(description="A token, such as a License Manager refresh token.")]
