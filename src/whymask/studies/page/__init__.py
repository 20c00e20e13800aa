"""The page of a study."""

from whymask.studies.page.write import write_study_page

__all__ = ["write_study_page"]
