"""What a model answered, as log-probabilities in one order of classes, or why it cannot be read as such.

The scorer calls `Reader`; nothing here knows about sockets, the ledger, or which model is the better one.
"""

from modelcanary_sidecar.decoding.reader import Reader
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unread, Unreadable

__all__ = ["Cause", "Reader", "ReadingError", "Unread", "Unreadable"]
