"""A number with its interval."""

from dataclasses import dataclass


def below_floor(nats: float | None, floor: float | None) -> bool:
    """Whether a drift is no more than rounding makes of nothing; of what is not known, it is not said."""
    return nats is not None and floor is not None and nats <= floor


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the unit of the scores that went in. What cannot be told is NaN."""

    value: float
    low: float
    high: float
    se: float
    """Standard error; of a posterior, its standard deviation, hence not zero when all pairs agree."""
    n: int
    """Items, or clusters of items, that were used."""
    unscored: int = 0
    """Items that were left out because a score was NaN."""
    method: str = ""
    """How the interval was made, in words."""
