"""For all tests: how long an example takes says how busy the machine is, so no property test fails for it."""

from hypothesis import settings

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
