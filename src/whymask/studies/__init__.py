"""A study: arms x label budgets x seeds, paired statistics, and a verdict."""
