"""A real OpenID provider, npm's certified oidc-provider: the emulator alone must not define how refresh works."""
