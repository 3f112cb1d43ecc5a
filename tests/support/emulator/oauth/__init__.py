"""An OAuth issuer with rotating refresh tokens, over HTTPS with its own CA."""


class OAuthError(Exception):
    """An error response (RFC 6749 section 5.2)."""

    def __init__(self, code: str, description: str, status: int = 400, **members: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code, self.status = code, status
        self.body = {"error": code, "error_description": description, **members}


def invalid_grant() -> OAuthError:
    """Return the error of a bad grant, which does not reveal what is wrong with it."""
    return OAuthError("invalid_grant", "grant request is invalid")
