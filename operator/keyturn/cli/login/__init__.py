"""Signs a person in at the issuer of a TokenRequest, and stores what its first exchange needs.

It imports no Kubernetes client and no AWS SDK.
"""
