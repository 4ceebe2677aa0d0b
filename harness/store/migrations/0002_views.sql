-- What people see: `runs` has one row a submission, `leaderboard` one row an entry, which is a submission but for its seed.

CREATE VIEW runs AS
WITH decided AS (
    SELECT
        submission,
        arg_max(value, id) FILTER (kind = 'renamed') AS name,
        arg_max(kind, id) FILTER (kind IN ('hidden', 'unhidden')) = 'hidden' AS hidden,
        bool_or(kind = 'retracted') AS retracted
    FROM events
    GROUP BY submission
),
scored AS (
    SELECT
        submission,
        avg(base) FILTER (role = 'new') AS base_new,
        avg(adapted) FILTER (role = 'new') AS new,
        avg(base) FILTER (role = 'prior') AS base_prior,
        avg(adapted) FILTER (role = 'prior') AS prior,
        sum(unscored)::BIGINT AS unscored
    FROM scores
    GROUP BY submission
),
drifted AS (  -- on the new task only: that is the drift which is said to predict forgetting
    SELECT
        submission,
        avg(nats) FILTER (direction = 'forward' AND per = 'episode') AS drift,
        avg(se) FILTER (direction = 'forward' AND per = 'episode') AS drift_se,
        avg(nats) FILTER (direction = 'forward' AND per = 'element') AS drift_element,
        avg(nats) FILTER (direction = 'reverse' AND per = 'episode') AS reverse
    FROM drifts SEMI JOIN (FROM scores WHERE role = 'new') AS fresh USING (submission, task)
    GROUP BY submission
)
SELECT
    s.id, s.entry, coalesce(decided.name, s.name) AS name, s.track, s.agent, s.base, s.method, s.settings, s.seed, s.steps,
    s.gain, s.gain_low, s.gain_high, s.gain_se, s.retention, s.retention_low, s.retention_high, s.retention_se,
    drift, drift_se, drift_element, reverse, base_new, new, base_prior, prior, unscored,
    (cost ->> 'adapt_seconds')::DOUBLE AS adapt_seconds,
    (cost ->> 'score_seconds')::DOUBLE AS score_seconds,
    (cost ->> 'episodes')::DOUBLE AS episodes,
    (cost ->> 'tokens')::DOUBLE AS tokens,
    (cost ->> 'elements')::DOUBLE AS elements,
    s.checkpoint, s.provenance, s.scored_at,
    coalesce(hidden, false) AS hidden,
    coalesce(retracted, false) AS retracted
FROM submissions AS s
LEFT JOIN decided ON decided.submission = s.id
LEFT JOIN scored ON scored.submission = s.id
LEFT JOIN drifted ON drifted.submission = s.id;

CREATE VIEW leaderboard AS
SELECT
    track, entry, arg_max(name, (scored_at, id)) AS name, any_value(agent) AS agent, any_value(base) AS base,
    any_value(method) AS method, arg_max(settings, (scored_at, id)) AS settings,
    count(DISTINCT coalesce(seed::VARCHAR, id)) AS seeds, count(*) AS runs,
    avg(gain) AS gain, stddev_samp(gain) AS gain_between,
    avg(retention) AS retention, stddev_samp(retention) AS retention_between,
    avg(drift) AS drift, stddev_samp(drift) AS drift_between,
    avg(drift_element) AS drift_element, avg(reverse) AS reverse, sum(unscored)::BIGINT AS unscored,
    avg(adapt_seconds) AS adapt_seconds, avg(score_seconds) AS score_seconds,
    avg(episodes) AS episodes, avg(tokens) AS tokens, avg(elements) AS elements,
    max(scored_at) AS scored_at
FROM runs
WHERE NOT hidden AND NOT retracted
GROUP BY track, entry;

-- Drift against forgetting: one row a scored checkpoint, and one a checkpoint evaluated in mid-training, which is held
-- against step 0 of its own curve (the same, perhaps fewer, items) where that was evaluated.
CREATE VIEW law AS
WITH start AS (
    SELECT submission, max(prior) FILTER (step = 0) AS prior, max(lr) AS lr FROM curve GROUP BY submission
),
points AS (
    SELECT id AS submission, steps AS step, true AS "end", drift, -retention AS forgetting FROM runs
    UNION ALL
    SELECT curve.submission, step, false, curve.drift, coalesce(start.prior, base_prior) - curve.prior
    FROM curve JOIN start USING (submission) JOIN runs ON runs.id = curve.submission
    WHERE NOT "end" AND step > 0
)
SELECT
    track, points.drift, forgetting, "end", entry, submission, name, method, seed, step,
    coalesce(try_cast(settings ->> 'lr' AS DOUBLE), start.lr) * step AS lr_steps
FROM points JOIN runs ON runs.id = points.submission LEFT JOIN start USING (submission)
WHERE NOT hidden AND NOT retracted AND points.drift IS NOT NULL AND forgetting IS NOT NULL;
