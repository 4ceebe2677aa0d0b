-- What readers look up is made when rows are written (harness/derive.py): first `runs` from the view `runs_now`; then, of
-- `runs`, `law` from the view `law_now`, and `entries` from the view `leaderboard` and the samples. Both views, older than
-- this table, read whatever is called `runs`.

ALTER VIEW runs RENAME TO runs_now;
CREATE TABLE runs AS
SELECT
    * EXCLUDE (provenance),
    provenance -> '$.submission' AS brought,  -- what its maker says of it; NULL where nobody submitted it
    TRY_CAST(provenance ->> '$.parameters' AS BIGINT) AS parameters
FROM runs_now LIMIT 0;

ALTER VIEW law RENAME TO law_now;
CREATE TABLE law AS FROM law_now LIMIT 0;

-- One row an entry that has a submission to show. Points and nats, as in `leaderboard`, but over items.
CREATE TYPE estimate AS STRUCT(
    value DOUBLE, low DOUBLE, high DOUBLE, se DOUBLE, n BIGINT, unscored BIGINT, method VARCHAR
);
CREATE TABLE entries AS
SELECT
    * EXCLUDE (gain, retention, drift, runs),
    NULL::estimate AS gain,
    NULL::estimate AS retention,
    NULL::estimate AS drift,
    NULL::BIGINT AS front,      -- of (gain, retention): 1 is best
    ''::VARCHAR AS variant,     -- what competes, over all other settings
    ''::VARCHAR AS differs,     -- how its settings differ from its track's, in words
    ''::VARCHAR AS verified,    -- `reproduced`, `differs`, or `no`
    NULL::BIGINT AS parameters,
    []::STRUCT(id VARCHAR, seed BIGINT, submitted VARCHAR)[] AS runs
FROM leaderboard LIMIT 0;

-- One row an entry and task. `per_item` is adapted − base on each of `item_sets.items`, averaged over seeds.
CREATE TABLE effects (
    entry VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    suite VARCHAR NOT NULL,
    base DOUBLE,
    adapted DOUBLE,
    difference estimate,
    item_set VARCHAR NOT NULL,
    per_item FLOAT[] NOT NULL  -- NaN: unscored
);
CREATE TABLE item_sets (item_set VARCHAR NOT NULL, items VARCHAR[] NOT NULL);

-- The law of forgetting of each track that has enough points: its coefficients, what it is worth, and the curve with its band.
CREATE TABLE laws (
    track VARCHAR NOT NULL,
    n BIGINT NOT NULL,
    r2 DOUBLE,
    r2_left_out DOUBLE,
    baseline_r2 DOUBLE,
    coefficients DOUBLE[] NOT NULL,
    drift DOUBLE[] NOT NULL,
    forgetting DOUBLE[] NOT NULL,
    low DOUBLE[] NOT NULL,
    high DOUBLE[] NOT NULL
);
