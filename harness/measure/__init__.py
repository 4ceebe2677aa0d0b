"""What is measured of an adapted policy: scores, drift, statistics, and the record they are kept in."""
