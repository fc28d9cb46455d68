"""What the cluster's harness raises; the command line shows the text and nothing else."""


class ClusterError(Exception):
    """The cluster cannot be built, started or reached. Says what to do about it."""
