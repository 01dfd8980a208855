"""How many examples a fuzzed test tries: few and always the same in `make test`, many and new ones by `make fuzz`."""

import os

import hypothesis

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

fuzzed = hypothesis.settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
