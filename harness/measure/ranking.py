"""Ranks: which rows of scores beat which, and the fronts of those that nobody beats."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from razorbench.harness.measure.clusters import Array


def wins(blocks: Sequence[ArrayLike], *, level: float = 0.95) -> Callable[[slice], Array]:
    """A function that tells of some rows whether each has more than every row, `[r, k]`, by the test of their
    difference: a part of the rows at a time, for k² numbers may be too many.

    A block `[k, m]` holds a score a cluster, NaN where there is none, weighted so that the sum over all blocks is what
    is compared; clusters are independent. A pair is held against each other on the clusters that both scored, and not
    at all where those of a block are fewer than two. i beats j if Σd − s > z √Σd², d the differences of clusters: the
    normal approximation of `sign_flip`, less a continuity correction s = √(Σd⁴ / Σd²), the size of a difference where
    all have one. Whatever the sizes, fewer than six differences are no win: for q of them (Σd − s)² / Σd² is at most
    (q − 1)² / q, by the inequalities of Cauchy and of power means.
    """
    z, parts = special.ndtri((1 + level) / 2), [_powers(block) for block in blocks]

    def beaten(rows: slice) -> Array:
        total, square, fourth, known = 0.0, 0.0, 0.0, True
        for powers, sums, scored in parts:
            x, x2, x3, x4 = powers
            if scored is None:  # one sum a row does, not one a pair
                one, two, four = ((each[rows, None], each) for each in sums)
                known = known and x.shape[1] > 1
            else:
                one, two, four = ((each[rows] @ scored.T, scored[rows] @ each.T) for each in (x, x2, x4))
                known = known & (scored[rows] @ scored.T > 1)
            product = x[rows] @ x.T
            cubes = 2 * product if x3 is x else x3[rows] @ x.T + x[rows] @ x3.T
            total = total + one[0] - one[1]
            square = square + two[0] + two[1] - 2 * product
            fourth = fourth + four[0] + four[1] - 4 * cubes + 6 * (x2[rows] @ x2.T)
        square = np.maximum(square, 0)
        items = sum(powers[0].shape[1] for powers, _, _ in parts)
        fourth = np.maximum(fourth, square**2 / max(items, 1))  # at least, but for rounding
        root = np.sqrt(square)
        step = np.sqrt(fourth) / np.where(root > 0, root, 1.0)
        return known & (total - step > z * root)

    return beaten


def _powers(block: ArrayLike) -> tuple[list[Array], list[Array], Array | None]:
    """x, x², x³, x⁴ of scores `[k, m]`, 0 where there is none; the sums of a row; and which are scored, None: all."""
    scores = np.asarray(block, dtype=float)
    scored = ~np.isnan(scores)
    x = np.where(scored, scores, 0.0)
    cube = x**3
    powers = [x, x * x, x if np.array_equal(cube, x) else cube, x**4]  # −1, 0 and 1 are their own cubes
    return powers, [powers[at].sum(1) for at in (0, 1, 3)], None if scored.all() else scored.astype(float)


def fronts(on_x: ArrayLike, on_y: ArrayLike, known: ArrayLike) -> Array:
    """Rank `[k]` by non-dominated sorting, 0 is the best front, −1 a point that is not `known [k]`.

    `on_x`, `on_y` `[k, k]` say who beats whom on an axis. A dominates B when it beats B on one axis and is not
    beaten on the other. So defined dominance is not transitive and can go in a circle: points that dominate each
    other round a circle (a strongly connected component) are tied and move as one, so that peeling always ends.
    """
    from scipy import sparse  # only who writes ranks
    from scipy.sparse import csgraph

    on_x, on_y, known = (np.asarray(each, dtype=bool) for each in (on_x, on_y, known))
    dominates = ((on_x & ~on_y.T) | (on_y & ~on_x.T)) & known[:, None] & known
    circles, circle = csgraph.connected_components(sparse.csr_array(dominates), connection="strong")
    above = np.zeros((circles, circles), dtype=bool)
    winner, loser = np.nonzero(dominates)
    above[circle[winner], circle[loser]] = True
    np.fill_diagonal(above, False)

    rank, dominators, front = np.full(circles, -1), above.sum(0), 0
    while (rank < 0).any():  # `above` has no circle left, so each front has a member
        free = (rank < 0) & (dominators == 0)
        rank[free] = front
        dominators = dominators - above[free].sum(0)
        front += 1
    return np.where(known, rank[circle], -1)
