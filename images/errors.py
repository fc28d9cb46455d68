class ImageError(Exception):
    """An image cannot be built; the text says why, and what to do."""
