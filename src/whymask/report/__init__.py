"""One self-contained page from the JSON of a study, an explanation or a theory run."""

from whymask.report.study import write_study_page

__all__ = ["write_study_page"]
