import pytest

from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.room import SIZE, Readable, make_file


def test_nothing_is_read_beyond_the_room() -> None:
    readable = Readable(make_file())
    with pytest.raises(FrameError, match="beyond what is shared"):
        readable.end_of(SIZE - 5, 6)
    assert readable.end_of(SIZE - 5, 5) == SIZE
