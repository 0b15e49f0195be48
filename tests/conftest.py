"""What holds for all tests: a loaded machine makes none of them fail."""

from hypothesis import settings

settings.register_profile("carrel", deadline=None)
settings.load_profile("carrel")
