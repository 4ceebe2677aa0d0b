-- What was submitted, and whether its result came out again: `reproduced`, `differs`, or NULL where nobody tried.

CREATE OR REPLACE VIEW runs AS
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
    coalesce(retracted, false) AS retracted,
    verified,
    provenance ->> '$.submission.id' AS submitted
FROM submissions AS s
LEFT JOIN decided ON decided.submission = s.id
LEFT JOIN scored ON scored.submission = s.id
LEFT JOIN drifted ON drifted.submission = s.id;
