"""Hypothesis profiles: HYPOTHESIS_PROFILE = fast (default), ci or deep."""

import os

from hypothesis import HealthCheck, settings

for name, examples in {"fast": 50, "ci": 200, "deep": 5000}.items():
    settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
