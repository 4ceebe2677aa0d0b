"""From a specification to a checkpoint or a record: one run, or many."""
