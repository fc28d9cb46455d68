"""Recipes of the project's container images, and what builds them on one machine. Run as `python -m images`."""
