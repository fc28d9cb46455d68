"""What the sidecar raises. On the live path nothing is raised: a failure there is an answer or a count."""


class SidecarError(Exception):
    """Base of every error that the sidecar raises."""


class SettingsError(SidecarError):
    """A setting cannot be used; the message names it and the remedy. Exit code 3."""


class FrameError(SidecarError):
    """A message between the live process and the scorer is not one of ours."""
