"""A number with its interval, and two of them that belong together."""

import math
from dataclasses import dataclass, replace


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

    def points(self) -> "Estimate":
        """Of scores (0–1) in points (0–100)."""
        return replace(self, **{name: 100 * getattr(self, name) for name in ("value", "low", "high", "se")})


@dataclass(frozen=True)
class Paired:
    """How two agents did on one task, over the items that both have scored. In points."""

    first: float
    second: float
    difference: Estimate
    """Second − first."""
    p: float
    mde: float
    """Smallest difference that so many items can detect."""
    first_alone: int
    """Items that the first has right and the second has not: a mean score of at least 1/2."""
    second_alone: int
    p_holm: float = math.nan
    """`p`, corrected over the tasks (Holm 1979)."""
