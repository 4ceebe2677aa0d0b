-- What items share, by name, beside the items; NULL where each stands alone. Intervals of entries of several seeds and all
-- fronts are made in another way: what is derived is made anew.

ALTER TABLE item_sets ADD COLUMN clusters VARCHAR[];
DELETE FROM item_sets;
DELETE FROM runs;
