"""A study: arms x label budgets x seeds, paired statistics, and a verdict."""

from whymask.study.run import study
from whymask.study.settings import StudySettings

__all__ = ["StudySettings", "study"]
