"""An emulator of the AWS APIs and of an OAuth issuer that Keyturn calls; README.md lists what it checks."""
