"""What the sidecar raises. The live path is another program: a failure there is an answer or a count."""


class SidecarError(Exception):
    """Base of every error that the sidecar raises."""


class SettingsError(SidecarError):
    """A setting cannot be used; the message names it and the remedy. Exit code 3."""


class MissingProgram(SidecarError):
    """The live processes' program is not where the package's build puts it. Exit code 3."""


class FrameError(SidecarError):
    """A message between the live process and the scorer is not one of ours."""
