"""What the demo raises: one base, every text one line that says what to do."""


class DemoError(Exception):
    """The demo cannot go on."""
