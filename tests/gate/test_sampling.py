import numpy as np

from modelcanary_gate.sampling import position


def test_is_the_same_wherever_it_is_asked() -> None:
    # pinned: sidecars and ledgers of different versions have to agree
    assert position("req-42") == 0.6879041783703621
    assert position("req-42", "a-run-id-of-more-than-sixteen") == 0.6268644827044461


def test_is_uniform_for_ids_that_are_not() -> None:
    positions = np.array([position(f"request-{i:08d}") for i in range(20_000)])
    counts, _ = np.histogram(positions, bins=20, range=(0.0, 1.0))
    chi_squared = ((counts - 1000.0) ** 2 / 1000.0).sum()
    assert chi_squared < 43.8  # the 99.9% point with 19 degrees of freedom


def test_a_salt_makes_another_choice() -> None:
    ids = [f"r{i}" for i in range(2000)]
    plain = np.array([position(i) for i in ids])
    salted = np.array([position(i, "run-1") for i in ids])
    assert abs(np.corrcoef(plain, salted)[0, 1]) < 0.08
