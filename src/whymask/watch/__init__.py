"""A page of what goes on in a run's or a study's folder, read from its files alone."""
