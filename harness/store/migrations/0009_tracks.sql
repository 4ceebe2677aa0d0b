-- Which content a track had when a row was scored on it: rows of one id and another content are no rows of one table.

ALTER TABLE submissions ADD COLUMN track_digest VARCHAR DEFAULT '';
