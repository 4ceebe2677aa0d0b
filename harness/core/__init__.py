"""What everything is made of: what is asked and answered, by whom, and how an episode is played. NumPy only."""
