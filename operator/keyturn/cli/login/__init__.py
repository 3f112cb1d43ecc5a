"""Signs a person in at the issuer of a TokenRequest, and stores what its first exchange needs.

Only the standard library, click and the API types: no cluster, no AWS.
"""
