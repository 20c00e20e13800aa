"""What `study` returns: study.json's content, its tables as frames, and in a notebook the verdict with them."""

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half a second, which the command line need not pay
    import pandas

SHOWN = {
    "levels": ("arm", "labels_per_class", "metric", "mean", "low", "high", "seeds"),
    "pairs": ("arm", "baseline", "labels_per_class", "metric", "difference", "low", "high", "seeds"),
}
"""The tables of a notebook, and their columns."""


class Rows(list[dict[str, Any]]):
    """Rows of one table of study.json."""

    def to_pandas(self) -> "pandas.DataFrame":
        """A row each, a column a key; what stands in a dict is named with a dot, such as metrics.accuracy."""
        import pandas

        return pandas.json_normalize(list(self))

    def _repr_html_(self) -> str:
        return str(self.to_pandas().to_html(index=False))


class StudyResult(dict[str, Any]):
    """study.json's content by key, and its tables as attributes, such as ``result.levels.to_pandas()``: `levels`,
    `pairs`, `cells`, `pretraining`, `per_class`, `label_worth`, `against_chance`. docs/results say what they hold."""

    def __getattr__(self, name: str) -> Rows:
        rows = self.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            tables = ", ".join(key for key, value in self.items() if isinstance(value, list))
            raise AttributeError(f"a study has no table {name!r}; its tables are {tables}; the rest is there by key")
        return Rows(rows)

    def _repr_html_(self) -> str:
        verdict = self["verdict"]
        tables = "".join(
            f"<h4>{name}</h4>{Rows({key: row.get(key) for key in keys} for row in mine)._repr_html_()}"
            for name, keys in SHOWN.items()
            if (mine := [row for row in self[name] if row["metric"] == verdict.get("metric")])
        )
        return f"<p><b>{escape(verdict['text'])}</b></p>{tables}"
