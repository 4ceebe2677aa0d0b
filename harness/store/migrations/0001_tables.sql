-- The index of home/records and home/events. Rows are only ever inserted; the samples stay in the Parquet files.

CREATE TABLE submissions (
    id VARCHAR PRIMARY KEY,
    entry VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    track VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    base VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    settings JSON NOT NULL,
    seed BIGINT,
    steps BIGINT,
    checkpoint VARCHAR NOT NULL,
    gain DOUBLE,
    gain_low DOUBLE,
    gain_high DOUBLE,
    gain_se DOUBLE,
    retention DOUBLE,
    retention_low DOUBLE,
    retention_high DOUBLE,
    retention_se DOUBLE,
    cost JSON NOT NULL,
    provenance JSON NOT NULL,
    scored_at TIMESTAMP NOT NULL,  -- UTC
    schema INTEGER NOT NULL
);

CREATE TABLE scores (
    submission VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    suite VARCHAR NOT NULL,
    n BIGINT NOT NULL,
    unscored BIGINT NOT NULL,
    base DOUBLE,
    adapted DOUBLE,
    difference DOUBLE,
    low DOUBLE,
    high DOUBLE,
    se DOUBLE,
    p DOUBLE,
    p_holm DOUBLE,
    mde DOUBLE,
    interval VARCHAR
);

CREATE TABLE drifts (
    submission VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    direction VARCHAR NOT NULL,
    per VARCHAR NOT NULL,
    nats DOUBLE,
    se DOUBLE,
    n BIGINT NOT NULL
);

CREATE TABLE curve (
    submission VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    "end" BOOLEAN NOT NULL,
    lr DOUBLE,
    loss DOUBLE,
    reward DOUBLE,
    grad_norm DOUBLE,
    new DOUBLE,
    prior DOUBLE,
    drift DOUBLE
);

CREATE TABLE events (
    id VARCHAR PRIMARY KEY,  -- begins with its time, so that ids sort by age
    submission VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    value VARCHAR,
    decided_at TIMESTAMP NOT NULL,  -- UTC
    schema INTEGER NOT NULL
);
