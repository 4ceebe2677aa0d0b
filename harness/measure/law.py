"""The law of forgetting: a quadratic of forgetting on drift, and what it is worth (arXiv 2509.04259, section 4)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from razorbench.harness.measure.clusters import Array, columns


def determined(drift: ArrayLike, forgetting: ArrayLike) -> bool:
    """Whether points `[m]` determine a law: four distinct ones, of three drifts. NaN is not known."""
    x, y = columns(drift, forgetting)
    known = ~np.isnan(x + y)
    return len(set(zip(x[known], y[known], strict=True))) >= 4 and len(set(x[known])) >= 3


def log_rate_steps(product: ArrayLike) -> Array:
    """log(learning rate × steps), the predictor that drift has to beat; NaN where the product is not positive."""
    (product,) = columns(product)
    return np.log(np.where(product > 0, product, np.nan))


@dataclass(frozen=True)
class Law:
    """Quadratic fit forgetting = c₀ + c₁·drift + c₂·drift² and what it is worth; see `fit_law`."""

    coefficients: Array
    """c₀, c₁, c₂ `[3]`."""
    r2: float
    """Share of the variance of forgetting that the fit takes, on the points it was fitted to."""
    r2_left_out: dict[str, float]
    """For each method, R² (about the method's own mean) of its points predicted from the others'; may be negative."""
    r2_left_out_pooled: float
    """The same over the points of all methods together, about their common mean."""
    leverage: Array
    """Hat values `[m]`: 1 means that the fit goes through the point whatever it says."""
    residual: Array
    """Forgetting − fit `[m]`; positive forgets more than its drift predicts."""
    baseline_r2: float
    """R² of the quadratic in the baseline variable, over the points where that is known: what drift has to beat."""
    n: int
    """Points with drift and forgetting; the others have NaN leverage and residual."""
    resampled: Array = field(repr=False)
    """Coefficients `[b, 3]` of the bootstrap fits that hold three distinct drifts."""

    def predict(self, drift: ArrayLike) -> Array:
        """Forgetting on the fitted curve at `drift`, any shape."""
        return np.polynomial.polynomial.polyval(np.asarray(drift, dtype=float), self.coefficients)

    def band(self, drift: ArrayLike, *, level: float = 0.95) -> tuple[Array, Array]:
        """Pointwise bootstrap limits of the curve at `drift [x]`; NaN when no resample determines a quadratic."""
        drift = np.asarray(drift, dtype=float)
        if not len(self.resampled):
            return np.full(drift.shape, np.nan), np.full(drift.shape, np.nan)
        curves = np.polynomial.polynomial.polyval(drift, self.resampled.T)  # [b, x]
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def fit_law(
    drift: ArrayLike,
    forgetting: ArrayLike,
    method: ArrayLike,
    baseline: ArrayLike | None = None,
    *,
    cluster: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Law:
    """Least-squares quadratic of forgetting on drift (arXiv 2509.04259) over points `[m]`.

    `method [m]` names what is left out in turn, `baseline [m]` is the rival predictor log(learning rate × steps),
    `cluster [m]` the run that a point belongs to (its points are resampled together). With fewer than three
    distinct drifts the quadratic is not determined: the shortest solution is taken, R² and residuals still hold,
    and the band is NaN. Raises ValueError for fewer than four distinct points.
    """
    drift, forgetting = columns(drift, forgetting)
    known = ~np.isnan(drift + forgetting)
    x, y, names = drift[known], forgetting[known], np.asarray(method)[known]
    distinct = len(np.unique(np.column_stack([x, y]), axis=0)) if len(x) else 0
    if distinct < 4:
        raise ValueError(f"found {distinct} distinct points of drift and forgetting; the quadratic law needs 4 or more")

    def r2(observed: Array, predicted: Array) -> float:
        around = ((observed - observed.mean()) ** 2).sum() if len(observed) else 0.0
        return float(1 - ((observed - predicted) ** 2).sum() / around) if around > 0 else np.nan

    power, into_powers = _quadratic(x)
    solution = np.linalg.lstsq(power, y, rcond=None)[0]
    fitted = power @ solution
    left_out = np.full(len(x), np.nan)
    for name in np.unique(names):
        out = names == name
        if len(np.unique(x[~out])) >= 3:
            part, into = _quadratic(x[~out])
            theirs = into @ np.linalg.lstsq(part, y[~out], rcond=None)[0]
            left_out[out] = np.polynomial.polynomial.polyval(x[out], theirs)
    told = ~np.isnan(left_out)

    baseline_r2 = np.nan
    if baseline is not None:
        rival = np.asarray(baseline, dtype=float)[known]
        has = np.isfinite(rival)
        if has.sum() >= 4:
            part, _ = _quadratic(rival[has])
            baseline_r2 = r2(y[has], part @ np.linalg.lstsq(part, y[has], rcond=None)[0])

    _, run = np.unique(np.arange(len(x)) if cluster is None else np.asarray(cluster)[known], return_inverse=True)
    runs = run.max() + 1
    times = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), resamples).astype(float)  # [b, runs]
    parts = np.column_stack([power[:, i] * each for i in range(3) for each in (*power.T, y)])  # [m, 12]
    sums = np.column_stack([np.bincount(run, part) for part in parts.T])  # of each run: a point counts as often as it
    times = times[_drifts(times, run, x) >= 3]  # three drifts fix a quadratic
    system = (times @ sums).reshape(-1, 3, 4)
    gram, moment = system[:, :, :3], system[:, :, 3:]
    resampled = (into_powers @ np.linalg.pinv(gram, hermitian=True) @ moment)[:, :, 0]

    leverage, residual = np.full(drift.shape, np.nan), np.full(drift.shape, np.nan)
    leverage[known] = (power * np.linalg.pinv(power).T).sum(1)
    residual[known] = y - fitted
    return Law(
        coefficients=into_powers @ solution,
        r2=r2(y, fitted),
        r2_left_out={str(name): r2(y[names == name], left_out[names == name]) for name in np.unique(names)},
        r2_left_out_pooled=r2(y[told], left_out[told]),
        leverage=leverage,
        residual=residual,
        baseline_r2=baseline_r2,
        n=len(x),
        resampled=resampled,
    )


def _drifts(times: Array, run: Array, x: Array) -> Array:
    """How many different drifts each resample holds `[b]`, given how often it holds each run `[b, runs]`."""
    order, first = np.argsort(x), np.unique(np.sort(x), return_index=True)[1]
    if len(first) == len(x):  # no two points share one
        return (times > 0) @ np.bincount(run).astype(float)
    return (np.add.reduceat(times[:, run[order]], first, axis=1) > 0).sum(1)


def _quadratic(x: Array) -> tuple[Array, Array]:
    """Powers 0–2 of standardised `x [m]`, `[m, 3]`, and the matrix that turns their coefficients into those of x."""
    centre, scale = x.mean(), x.std() or 1.0
    shift = -centre / scale
    into = np.array([[1, shift, shift**2], [0, 1 / scale, 2 * shift / scale], [0, 0, 1 / scale**2]])
    return np.vander((x - centre) / scale, 3, increasing=True), into
