"""What `study` returns: study.json's content, its tables as frames, and in a notebook the verdict with them."""

from html import escape
from typing import TYPE_CHECKING, Any

from whymask.report.notebook import interval, table_html
from whymask.report.text import count, number, signed
from whymask.stages.taken import seen_texts, task_of
from whymask.studies.page.results import metric_name

if TYPE_CHECKING:  # half a second, which the command line need not pay
    import pandas


class Rows(list[dict[str, Any]]):
    """Rows of one table of study.json."""

    def to_pandas(self) -> "pandas.DataFrame":
        """A row each, a column a key; what stands in a dict is named with a dot, such as metrics.accuracy."""
        import pandas

        return pandas.json_normalize(list(self))

    def _repr_html_(self) -> str:
        return str(self.to_pandas().to_html(index=False, border=0, float_format="{:.4g}".format))


class StudyResult(dict[str, Any]):
    """study.json's content by key, and its tables as attributes, such as ``result.levels.to_pandas()``: `levels`,
    `pairs`, `cells`, `pretraining`, `per_class`, `label_worth`, `against_chance`. docs/results say what they hold."""

    def __getattr__(self, name: str) -> Rows:
        rows = self.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            tables = ", ".join(key for key, value in self.items() if isinstance(value, list))
            raise AttributeError(f"a study has no table {name!r}; its tables are {tables}; the rest is there by key")
        return Rows(rows)

    def __repr__(self) -> str:
        if "plan" in self:
            return f"<plan of a study: {self['plan']}>"
        said = " ".join([self["verdict"]["text"], *seen_texts(self)])
        return f"<study: {said} Its content by key: {', '.join(self)}>"

    def _repr_html_(self) -> str:
        if "plan" in self:
            return f"<p>{escape(repr(self)[1:-1])}</p>"
        verdict = self["verdict"]
        metric = verdict.get("metric")
        title = metric_name(metric, task_of(self)) if metric else ""
        levels = [_level(row, title) for row in self["levels"] if row["metric"] == metric]
        pairs = [_pair(row) for row in self["pairs"] if row["metric"] == metric]
        tables = [table_html(table) for table in (levels, pairs)]
        beside = "".join(f"<p>{escape(text)}</p>" for text in seen_texts(self))
        return f"<p><b>{escape(verdict['text'])}</b></p>{beside}{''.join(tables)}"


def _level(row: dict[str, Any], title: str) -> dict[str, Any]:
    return {
        "arm": row["arm"],
        "labels": count(row["labels_per_class"]),
        title: number(row["mean"]),
        "95 % over seeds": interval(row),
        "seeds": row["seeds"],
    }


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "compared": f"{row['arm']} − {row['baseline']}",
        "labels": count(row["labels_per_class"]),
        "difference": signed(row["difference"]),
        "95 % over seeds": interval(row),
        "seeds": row["seeds"],
    }
