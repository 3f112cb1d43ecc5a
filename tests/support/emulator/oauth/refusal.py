"""How an OAuth server refuses."""


class OAuthError(Exception):
    """An error answer (RFC 6749 section 5.2)."""

    def __init__(self, code: str, description: str, status: int = 400, **members: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code, self.status = code, status
        self.answer = {"error": code, "error_description": description, **members}
