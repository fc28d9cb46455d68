"""The index of ids finds what is there, all of it, and nothing else."""

import numpy as np
import pytest

from modelcanary_ledger.idindex import IdIndex, id_hash, id_salt, write_index


def test_every_pair_of_a_hash_is_found(tmp_path):
    rng = np.random.default_rng(3)
    hashes = rng.integers(-(2**63), 2**63 - 1, 5000)
    hashes[10:14] = hashes[10]
    hashes[:2] = [-(2**63), 2**63 - 1]
    pids = np.arange(5000) + (7 << 40)
    path = tmp_path / "x.ids"
    write_index(path, hashes, pids)
    index = IdIndex(path)
    wanted = np.concatenate([hashes[[4999, 10, 0, 1]], rng.integers(-(2**63), 2**63 - 1, 100)])
    found = index.find(wanted)
    first = 7 << 40
    assert sorted(found) == [(0, first + 4999), *((1, first + i) for i in range(10, 14)), (2, first), (3, first + 1)]
    assert sorted(index.find(wanted)) == sorted(found)
    np.testing.assert_array_equal(index._first_not_below(wanted), np.searchsorted(np.sort(hashes), wanted))
    assert index.intact()


def test_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "x.ids"
    write_index(path, np.arange(10), np.arange(10))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert not IdIndex(path).intact()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="index of 10"):
        IdIndex(path)


def test_an_empty_index(tmp_path):
    path = tmp_path / "x.ids"
    write_index(path, np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    assert IdIndex(path).find(np.array([1, 2])) == []


def test_models_and_instances_hash_apart():
    hashes = {id_hash("a", id_salt(model, index)) for model in range(1, 5) for index in range(50)}
    assert len(hashes) == 200
    assert id_hash("a", id_salt(1, 0)) == id_hash("a", id_salt(1, 0))
    assert id_hash("\ud800", id_salt(1, 0)) != id_hash("a", id_salt(1, 0))


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1000])
def test_the_search_agrees_with_numpy(tmp_path, count):
    path = tmp_path / "x.ids"
    rng = np.random.default_rng(count)
    hashes = rng.integers(-50, 50, count)
    write_index(path, hashes, np.arange(count))
    wanted = np.arange(-55, 56)
    np.testing.assert_array_equal(IdIndex(path)._first_not_below(wanted), np.searchsorted(np.sort(hashes), wanted))
