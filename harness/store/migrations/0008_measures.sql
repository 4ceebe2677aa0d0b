-- What is measured of an adaptation on the way, beside its curve; and for how many steps in a row a run had nothing to learn from.

CREATE TABLE measures (
    submission VARCHAR NOT NULL,
    step BIGINT NOT NULL,
    name VARCHAR NOT NULL,  -- harness.learn.measures.MEASURES says what each is
    value DOUBLE,
    se DOUBLE  -- over the steps; NULL: of one step, or not a mean
);

ALTER TABLE runs ADD COLUMN silent BIGINT;
