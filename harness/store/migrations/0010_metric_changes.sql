-- How what a task measures beside the score has changed, item by item, as {metric: [adapted − base, low, high]}. Empty of
-- records that are older than schema 3, which have the means alone.

ALTER TABLE scores ADD COLUMN metric_changes JSON DEFAULT '{}';
