"""Long experiments whose tables stand under docs/results; each is one command, and goes on where it was stopped."""
