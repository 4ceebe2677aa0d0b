-- What a task measures beside the score, as {metric: [mean of the base, mean of the adapted]}.

ALTER TABLE scores ADD COLUMN metrics JSON DEFAULT '{}';
