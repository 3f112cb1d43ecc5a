"""An AWS of our own: it checks what AWS checks, and can be told to misbehave.

__main__         python -m tests.support.emulator: the only real clock
running          a handle for tests: the emulator as a process of its own
app              HTTP in, one operation, HTTP out
happening        one call on its way, and what goes wrong with it
control          the test's side door: counts, faults, seeds, secrets
license_manager, sts, identity_center     one part per service: its operations and what it refuses
cognito, codeartifact, ecr                the same
directory        what Identity Center knows
pools            what Cognito remembers
oauth            an OAuth issuer, on a port of its own
service          what an operation is given, and how it refuses
shapes           botocore's model as a law for requests and answers
registries       what the tokens of codeartifact and ecr open
wire             the protocols: JSON 1.1, REST with JSON, and Query
sigv4            who signed this call
tokens           JWTs and the keys that sign them
trust            a role's trust policy
faults           what goes wrong on purpose
world            what this AWS knows
"""
