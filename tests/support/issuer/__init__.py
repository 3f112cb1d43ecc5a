"""A real OpenID issuer, npm's certified oidc-provider, so that not only our own emulator says how refresh works.

running      a handle for tests: the issuer as a process of its own
server.mjs   how it is set up
"""
