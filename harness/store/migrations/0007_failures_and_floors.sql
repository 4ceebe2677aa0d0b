-- Who failed, the agent (a zero) or the world (unscored), on each side; under which conditions items were answered; and what
-- rounding alone makes of a drift. NULL where a record of schema 1 does not tell.

ALTER TABLE scores ADD COLUMN items BIGINT;
ALTER TABLE scores ADD COLUMN unscored_base BIGINT;
ALTER TABLE scores ADD COLUMN unscored_adapted BIGINT;
ALTER TABLE scores ADD COLUMN failed_base BIGINT;
ALTER TABLE scores ADD COLUMN failed_adapted BIGINT;
ALTER TABLE drifts ADD COLUMN floor DOUBLE;
ALTER TABLE submissions ADD COLUMN conditions JSON DEFAULT '{}';
ALTER TABLE submissions ADD COLUMN data JSON DEFAULT '{}';

CREATE OR REPLACE VIEW runs_now AS
WITH decided AS (
    SELECT
        submission,
        arg_max(value, id) FILTER (kind = 'renamed') AS name,
        arg_max(kind, id) FILTER (kind IN ('hidden', 'unhidden')) = 'hidden' AS hidden,
        bool_or(kind = 'retracted') AS retracted,
        arg_max(value, id) FILTER (kind = 'verified') AS verified
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
        sum(unscored)::BIGINT AS unscored,
        max(unscored / greatest(coalesce(items, n + unscored), 1)) AS unscored_share,
        sum(unscored_base)::BIGINT AS unscored_base,
        sum(unscored_adapted)::BIGINT AS unscored_adapted,
        bool_or(unscored_base <> unscored_adapted) AS uneven,
        sum(failed_base)::BIGINT AS failed_base,
        sum(failed_adapted)::BIGINT AS failed_adapted
    FROM scores
    GROUP BY submission
),
drifted AS (  -- on the new task only: that is the drift which is said to predict forgetting
    SELECT
        submission,
        avg(nats) FILTER (direction = 'forward' AND per = 'episode') AS drift,
        avg(se) FILTER (direction = 'forward' AND per = 'episode') AS drift_se,
        avg(nats) FILTER (direction = 'forward' AND per = 'element') AS drift_element,
        avg(nats) FILTER (direction = 'reverse' AND per = 'episode') AS reverse,
        max(floor) FILTER (direction = 'forward' AND per = 'episode') AS floor
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
    coalesce(retracted, false) AS retracted,
    verified,
    provenance ->> '$.submission.id' AS submitted,
    floor, unscored_share, unscored_base, unscored_adapted, coalesce(uneven, false) AS uneven, failed_base, failed_adapted,
    conditions
FROM submissions AS s
LEFT JOIN decided ON decided.submission = s.id
LEFT JOIN scored ON scored.submission = s.id
LEFT JOIN drifted ON drifted.submission = s.id;

ALTER TABLE runs ADD COLUMN floor DOUBLE;
ALTER TABLE runs ADD COLUMN unscored_share DOUBLE;
ALTER TABLE runs ADD COLUMN unscored_base BIGINT;
ALTER TABLE runs ADD COLUMN unscored_adapted BIGINT;
ALTER TABLE runs ADD COLUMN uneven BOOLEAN;
ALTER TABLE runs ADD COLUMN failed_base BIGINT;
ALTER TABLE runs ADD COLUMN failed_adapted BIGINT;
ALTER TABLE runs ADD COLUMN conditions JSON;

CREATE OR REPLACE VIEW leaderboard AS
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
    max(scored_at) AS scored_at,
    max(floor) AS floor, max(unscored_share) AS unscored_share, bool_or(uneven) AS uneven,
    sum(failed_base)::BIGINT AS failed_base, sum(failed_adapted)::BIGINT AS failed_adapted
FROM runs
WHERE NOT hidden AND NOT retracted
GROUP BY track, entry;

ALTER TABLE entries ADD COLUMN floor DOUBLE;
ALTER TABLE entries ADD COLUMN unscored_share DOUBLE;
ALTER TABLE entries ADD COLUMN uneven BOOLEAN;
ALTER TABLE entries ADD COLUMN failed_base BIGINT;
ALTER TABLE entries ADD COLUMN failed_adapted BIGINT;
DELETE FROM runs;  -- is made anew by this very writer, with what stands on it
