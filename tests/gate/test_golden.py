"""Formulas against another implementation's numbers: the C++ library behind the package confseq (see golden.json)."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.gates import rules

from modelcanary_gate.confidence import best_rho, normal_mixture_bound
from modelcanary_gate.eprocess import Wealth

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "golden.json").read_text())["values"]


@pytest.mark.parametrize("row", GOLDEN["bestRho"])
def test_best_rho(row: dict[str, Any]) -> None:
    assert best_rho(row["v"], row["alpha"]) == pytest.approx(row["value"], abs=1e-5)


@pytest.mark.parametrize("row", GOLDEN["normalMixtureBound"])
def test_normal_mixture_bound(row: dict[str, Any]) -> None:
    rho = best_rho(row["vOpt"], row["alphaOpt"])
    assert normal_mixture_bound(row["v"], row["alpha"], rho) == pytest.approx(row["value"], rel=1e-12)


@pytest.mark.parametrize("row", GOLDEN["asymptoticMargin"])
def test_asymptotic_margin(row: dict[str, Any]) -> None:
    """The margin of Waudby-Smith et al. is the normal mixture's bound over t, of variance 1."""
    bound = normal_mixture_bound(row["t"], row["alpha"], 1 / row["rho2"])
    assert bound / row["t"] == pytest.approx(row["value"], rel=1e-9)


@pytest.mark.parametrize("row", GOLDEN["bettingMartingale"])
def test_wealth_is_the_mixture_of_bets(row: dict[str, Any]) -> None:
    x, bets = np.array(row["pattern"] * row["times"]) - row["mean"], np.array(row["bets"])
    wealth = Wealth(np.array([False]), np.full((1, len(bets)), 1 / len(bets)))
    for block in x.reshape(-1, 20):
        wealth.push(np.log1p(block[:, None] * bets).sum(axis=0)[None])
    assert wealth.log_evidence(np.ones(1))[0] == pytest.approx(row["value"], rel=1e-12)


@pytest.mark.parametrize("row", GOLDEN["oneSidedNormalLogMixture"])
def test_rival_one_sided_normal_mixture(row: dict[str, Any]) -> None:
    rho = rules.one_sided_rho(row["vOpt"], row["alphaOpt"])
    found = rules.one_sided_normal_mixture(np.array(row["s"]), np.array(row["v"]), rho)
    assert float(found) == pytest.approx(row["value"], abs=1e-9)


@pytest.mark.parametrize("row", GOLDEN["oneSidedNormalBound"])
def test_rival_one_sided_normal_bound(row: dict[str, Any]) -> None:
    rho = rules.one_sided_rho(row["vOpt"], row["alphaOpt"])
    at_bound = rules.one_sided_normal_mixture(np.array(row["value"]), np.array(row["v"]), rho)
    assert float(at_bound) == pytest.approx(-math.log(row["alpha"]), abs=1e-6)


@pytest.mark.parametrize("row", GOLDEN["gammaExponentialLogMixture"])
def test_rival_gamma_exponential_mixture(row: dict[str, Any]) -> None:
    rho = rules.one_sided_rho(row["vOpt"], row["alphaOpt"])
    found = rules.gamma_exponential_mixture(np.array(row["s"]), np.array(row["v"]), rho, row["c"])
    assert float(found) == pytest.approx(row["value"], abs=1e-9)


@pytest.mark.parametrize("row", GOLDEN["gammaExponentialBound"])
def test_rival_gamma_exponential_bound(row: dict[str, Any]) -> None:
    rho = rules.one_sided_rho(row["vOpt"], row["alphaOpt"])
    at_bound = rules.gamma_exponential_mixture(np.array(row["value"]), np.array(row["v"]), rho, row["c"])
    assert float(at_bound) == pytest.approx(-math.log(row["alpha"]), abs=1e-6)
