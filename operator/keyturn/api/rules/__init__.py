"""The rules between the parts of a TokenRequest, one file per topic.

Each rule is written twice: in CEL for the API server, and in Python for `keyturn check`, standalone mode and objects
that are older than the rule. In CEL, `steps` is the list of the exchanges' names in order, and `formats` that of the
formats' names: see CEL_VARIABLES in token_request.py. In a condition on an exchange, `x` is its name and `i` its index.
"""
