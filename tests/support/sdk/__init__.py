"""Programs that call STS with the default credentials of an AWS SDK, and outlive those credentials."""
