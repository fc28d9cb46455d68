"""What the command line reads from the environment: a shell that asks what would complete a line."""

import os

COMPLETION = "_MODELCANARY_COMPLETE"


def completion_asked() -> str:
    """click's instruction, such as `bash_complete`; empty where nothing is asked."""
    return os.environ.get(COMPLETION, "")
