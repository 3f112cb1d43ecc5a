"""The names that OAuth 2.0 has for grants (RFC 6749, RFC 7523, RFC 8693) and for types of tokens (RFC 8693)."""

AUTHORIZATION_CODE = "authorization_code"
CLIENT_CREDENTIALS = "client_credentials"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant

AN_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
AN_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a type
A_REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105 - the name of a type
# In CEL, the step is {0}.
ASKED_TO_REFRESH = f"has({{0}}.requestedTokenType) && {{0}}.requestedTokenType == '{A_REFRESH_TOKEN}'"
