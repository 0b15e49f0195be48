"""What holds for all tests: a loaded machine makes none of them fail."""

from hypothesis import HealthCheck, settings

settings.register_profile("carrel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("carrel")
