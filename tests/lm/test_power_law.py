"""The law that made the losses must come out of them: exactly without noise, and within its intervals with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from data_pipeline.errors import UserError
from lm.power_law import HUBER, Fit, PowerLaw, check, fit, frontier, line

SIZES, BUDGETS = np.array([82e3, 160e3, 262e3, 541e3]), np.array([0.1e6, 0.2e6, 0.4e6, 0.8e6])
N, D = (values.ravel() for values in np.meshgrid(SIZES, BUDGETS))
CONSTANTS = ("E", "A", "alpha", "B", "beta")


def constants(law: PowerLaw) -> list[float]:
    return [getattr(law, name) for name in CONSTANTS]


def noisy(law: PowerLaw, seed: int, noise: float = 0.005) -> np.ndarray:
    return law.loss(N, D) * np.exp(noise * np.random.default_rng(seed).normal(size=len(N)))


def test_the_formula():
    law = PowerLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
    # Chinchilla itself, by the constants that its paper prints: 70 B parameters, 1.4 T tokens.
    assert law.loss(70_000_000_000, 1_400_000_000_000) == pytest.approx(
        1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28, rel=1e-12
    )
    assert law.compute_exponent == pytest.approx(0.28 / 0.62)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    share=st.tuples(st.floats(0.2, 0.7), st.floats(0.2, 0.8)),
    alpha=st.floats(0.1, 1.0),
    beta=st.floats(0.1, 1.0),
)
def test_finds_the_constants_of_losses_without_noise(share, alpha, beta):
    rest = 5.0 * (1 - share[0])
    law = PowerLaw(5.0 * share[0], rest * share[1] * 200e3**alpha, alpha, rest * (1 - share[1]) * 300e3**beta, beta)
    found = fit(N, D, law.loss(N, D), resamples=0)
    assert constants(found.law) == pytest.approx(constants(law), rel=1e-3)
    assert found.r_squared == pytest.approx(1, abs=1e-9)


def test_no_other_constants_have_a_lower_huber_loss():
    """Against a search without gradients, of the formula as it is printed, from the truth and from what was found."""
    truth = PowerLaw(2.0, 20.0, 0.25, 300.0, 0.4)
    losses = noisy(truth, 1)
    losses[5] *= 1.1  # one run that went wrong

    def huber(theta: np.ndarray) -> float:
        e, a, alpha, b, beta = theta
        with np.errstate(all="ignore"):
            r = np.abs(np.log(np.exp(e) + np.exp(a) * N**-alpha + np.exp(b) * D**-beta) - np.log(losses))
        value = np.sum(np.where(r <= HUBER, r**2 / 2, HUBER * (r - HUBER / 2))) / HUBER**2
        return value if np.isfinite(value) else 1e9

    def theta(law: PowerLaw) -> np.ndarray:
        return np.array([np.log(law.E), np.log(law.A), law.alpha, np.log(law.B), law.beta])

    found = theta(fit(N, D, losses, resamples=0).law)
    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-9, "fatol": 1e-10, "adaptive": True}
    for start in (theta(truth), found):
        assert huber(found) <= minimize(huber, start, method="Nelder-Mead", options=options).fun + 1e-6


def test_how_wrong_a_run_went_does_not_move_the_law():
    law = PowerLaw(2.0, 20.0, 0.25, 300.0, 0.4)
    fitted = []
    for factor in (1.1, 1.5):
        losses = law.loss(N, D)
        losses[5] *= factor
        fitted.append(fit(N, D, losses, resamples=0).law.loss(N, D))
    # Least squares would move the loss there about five times as far for the second.
    assert fitted[0] == pytest.approx(fitted[1], rel=1e-5)
    assert fitted[0] == pytest.approx(law.loss(N, D), rel=5e-3)


def test_intervals_hold_the_truth_most_of_the_time():
    """Of 95% intervals from 15 draws, 12 or more hold it with a probability of 99%; a new run's loss has noise of its own."""
    law, repeats = PowerLaw(2.0, 20.0, 0.25, 300.0, 0.4), 15
    held = dict.fromkeys(("alpha", "beta", "E", "prediction"), 0)
    for seed in range(repeats):
        found = fit(N, D, noisy(law, seed), resamples=50, seed=seed)
        for name in ("alpha", "beta", "E"):
            low, high = found.interval(name)
            assert low < high
            held[name] += low <= getattr(law, name) <= high
        prediction = found.predict(2e6, 1.6e6)
        assert prediction.low <= prediction.loss <= prediction.high
        # Wide enough to be right, narrow enough to say something: the loss falls by 13% from the best of the grid.
        assert prediction.high / prediction.low < 1.13
        new = law.loss(2e6, 1.6e6) * np.exp(0.005 * np.random.default_rng(1000 + seed).normal())
        held["prediction"] += prediction.low <= new <= prediction.high
    assert all(count >= 12 for count in held.values()), held


def test_more_noise_makes_intervals_wider_and_the_seed_makes_them_the_same():
    law = PowerLaw(2.0, 20.0, 0.25, 300.0, 0.4)

    def width(noise: float, seed: int = 0) -> float:
        low, high = fit(N, D, noisy(law, 3, noise), resamples=40, seed=seed).interval("beta")
        return high - low

    assert width(0.0) < 1e-6 < width(0.001) < width(0.01)
    assert width(0.001) == width(0.001) != width(0.001, seed=1)


def test_a_prediction_has_the_noise_of_one_run():
    """Constants known exactly, residuals of +-1%: the interval is theirs, widened for five fitted constants."""
    law = PowerLaw(2.0, 20.0, 0.25, 300.0, 0.4)
    residuals = np.where(np.arange(16) % 2, 0.01, -0.01)
    prediction = Fit(law, (law,) * 100, residuals, 1.0).predict(2e6, 1.6e6)
    widened = 0.01 * (16 / 11) ** 0.5
    assert prediction.loss == law.loss(2e6, 1.6e6)
    assert prediction.low == pytest.approx(prediction.loss * np.exp(-widened))
    assert prediction.high == pytest.approx(prediction.loss * np.exp(widened))


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (([1, 2, 3], [1, 2, 3], [3, 2, 1]), "3 runs are too few"),
        (([1, 2] * 3, [1, 2, 3] * 2, [6, 5, 4, 3, 2, 1]), "2 different sizes"),
        (([1, 2, 3] * 2, [1, 2] * 3, [6, 5, 4, 3, 2, 1]), "2 different token budgets"),
        (([1, 2, 3] * 2, [1, 2, 3] * 2, [6, 5, 4, 3, 2, float("nan")]), "not a positive number"),
        (([1, 2, 3] * 2, [1, 2, 3] * 2, [2.0] * 6), "all runs have the same loss"),
    ],
)
def test_refuses_runs_that_say_too_little(runs, told):
    with pytest.raises(UserError, match=told):
        fit(*runs)
    with pytest.raises(UserError, match=told):
        check(*(np.array(values, float) for values in runs))


def test_the_frontier_and_its_line():
    assert frontier([4, 1, 2, 3, 2], [1.0, 3.0, 2.0, 2.5, 2.2]) == [1, 2, 0]
    x = np.array([1e10, 1e11, 5e12])
    assert line(x, 7 * x**-0.05) == pytest.approx((7, 0.05))
