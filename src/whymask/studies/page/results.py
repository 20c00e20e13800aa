"""What a study found, arranged for the page: functions of study.json alone."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from whymask.errors import WhymaskError
from whymask.report.text import count, known, plural
from whymask.stages.taken import leading_of, task_of
from whymask.studies.page.numbers import COSTS
from whymask.studies.table import row_key
from whymask.studies.verdict import in_short
from whymask.tasks import Classification, Task

Row = dict[str, Any]
BASELINES = ("scratch", "scratch-long")
CLASSES = Classification()
_VERDICTS = {
    "helps": ("✓", "Pretraining helps"),
    "hurts": ("✗", "Pretraining hurts"),
    "not worth its compute": ("–", "Not worth its compute"),
    "no difference that matters": ("=", "No difference that matters"),
    "cannot tell": ("?", "Cannot tell"),
}
_WORTHS = {
    "exact": ("about", ""),
    "at least": ("at least", ""),
    "at most": ("at most", ": scratch did as well with the fewest labels tried"),
}


def arms_of(study: Row) -> list[str]:
    """Every arm the study names, the baselines first."""
    rows = [*study["cells"], *study["levels"], *study["pairs"], *study["per_class"], *study["confusion"]]
    named = dict.fromkeys([*study["setting"].get("arms", {}), *(row["arm"] for row in [*rows, *study["label_worth"]])])
    methods = dict.fromkeys(record["method"] for record in study["pretraining"])
    return [*(arm for arm in BASELINES if arm in named), *(arm for arm in named | methods if arm not in BASELINES)]


def lead_of(study: Row) -> tuple[str, Any]:
    """The verdict's metric and labels (before there is a verdict: the config's metric, the smallest budget)."""
    verdict = study["verdict"]
    metric = verdict.get("metric") or study["setting"].get("metric") or task_of(study).default_metric
    return metric, verdict.get("labels_per_class") or min(main_budgets(study), default=None)


def main_budgets(study: Row) -> list[float]:
    """The numbers of labels at which arms are compared; `scratch` may have run at further ones."""
    rows = [*study["cells"], *study["levels"]]
    budgets = {row["labels_per_class"] for row in rows if known(row["labels_per_class"])}
    compared = {row["labels_per_class"] for row in rows if row["arm"] != "scratch"}
    return sorted(budgets & compared or budgets)


def metrics_of(rows: Iterable[Row], lead: str, task: Task) -> list[str]:
    """The metrics of `rows`, the verdict's first, then the usual order, subsets after the whole."""
    usual = task.every_metric

    def place(metric: str) -> tuple[bool, bool, int, str]:
        base = metric.partition("/")[0]
        return metric != lead, "/" in metric, usual.index(base) if base in usual else len(usual), metric

    return sorted({row["metric"] for row in rows}, key=place)


def metric_name(metric: str, task: Task = CLASSES) -> str:
    """ "accuracy/single_view" -> "single-view accuracy"; "log_loss" -> "log loss (lower is better)"."""
    try:
        about = task.describe(metric)
    except WhymaskError:  # a page is made from what is there
        return metric.replace("_", " ")
    return about.title if about.higher_is_better else f"{about.title} (lower is better)"


def metric_table(study: Row) -> list[Row]:
    """What each metric measures: {"name", "unit", "better", "average"}."""
    task = task_of(study)
    rows = []
    for metric in metrics_of(study["levels"], lead_of(study)[0], task):
        try:
            about = task.describe(metric)
        except WhymaskError:  # of another version
            continue
        rows.append(
            {
                "name": about.title,
                "unit": {"": "none", "nat": "nats", "target": "the target's"}[about.unit],
                "better": "higher" if about.higher_is_better else "lower",
                "average": about.average,
            }
        )
    return rows


def verdict(study: Row) -> Row:
    """The verdict's sentence, its badge, and what it rests on."""
    given = study["verdict"]
    mark, title = _VERDICTS.get(given.get("kind"), ("…", "No verdict yet"))
    metric, labels = lead_of(study)
    text = given.get("text") or "The study has no verdict yet: not enough of its cells are finished."
    pretrained = Counter(record["method"] for record in study["pretraining"] if not record.get("error"))
    return {
        "kind": given.get("kind", "none").replace(" ", "-"),
        "mark": mark,
        "title": title,
        "settle": given.get("settle"),
        "short": in_short(text),
        "text": text,
        "metric": metric,
        "labels": labels,
        "encoders": [f"{plural(n, f'{method} encoder')} pretrained" for method, n in pretrained.items()],
        "seeds": len({cell["seed"] for cell in study["cells"] if not cell.get("error")}),
        "worth": _worths(study, labels, here=True),
        "further_worth": _worths(study, labels, here=False),
    }


def _worths(study: Row, labels: Any, *, here: bool) -> list[str]:
    """The sentences about what the arms are worth at the verdict's number of labels, or at the others."""
    said = [row for row in study["label_worth"] if row.get("said")]
    rows = [row for row in said if (row["labels_per_class"] == labels) == here]
    return [sentence for row in rows if (sentence := worth_sentence(row, task_of(study)))]


def worth_sentence(row: Row, task: Task = CLASSES) -> str | None:
    """A row of label_worth in words; None where it has no number."""
    if not known(row.get("worth")):
        return None
    labels = row["labels_per_class"]
    start = f"{count(labels)} {task.bought(labels)} with {row['arm']} {'is' if labels == 1 else 'are'} worth"
    spread = ""
    if known(row.get("low")) and known(row.get("high")) and row["low"] < row["high"]:
        low, high = (_bounded(row[end], row.get(f"{end}_kind")) for end in ("low", "high"))
        seeds = f" over {plural(row['seeds'], 'seed')}" if known(row.get("seeds")) else ""
        spread = f" (median; from {low} to {high}{seeds})"
    size, remark = _WORTHS.get(row.get("kind", "exact"), _WORTHS["exact"])
    if row.get("low_kind") == "at least":  # of the seed that caught up first
        remark = ": in no seed did scratch catch up at any number of labels tried"
    return f"{start} {size} {_labels(row['worth'])} from scratch{spread}{remark}."


def choosing_worth(row: Row) -> str:
    """ "about 14 (at most 10 to 20)": how many drawn labels chosen ones are worth, the median and the range over seeds;
    "" where that was not asked."""
    worth = row["worth"]
    if worth is None:
        return ""
    low, high = (_bounded(worth[end], worth[f"{end}_kind"]) for end in ("low", "high"))
    return f"{_WORTHS[worth['kind']][0]} {_labels(worth['worth'])}" + (f" ({low} to {high})" if low != high else "")


def _labels(value: float) -> str:
    return count(round(value, 1) if value < 10 else round(value))


def _bounded(value: float, kind: str | None) -> str:
    return f"{kind} {_labels(value)}" if kind in ("at least", "at most") else _labels(value)


def tiles(study: Row) -> list[Row]:
    """The numbers beside the verdict: each arm's level, and each difference the verdict rests on."""
    metric, labels = lead_of(study)
    here = {"metric": metric, "labels_per_class": labels}
    levels = {row["arm"]: row for row in study["levels"] if here.items() <= row.items()}
    shown = [levels[arm] for arm in arms_of(study) if arm in levels and known(levels[arm]["mean"])]
    pairs = [row for row in study["pairs"] if is_verdict_row(study, row) and known(row["difference"])]
    chance = study["chance"].get(metric)
    guess = [{"arm": "no image looked at", "value": chance, "low": None, "high": None, "signed": False}]
    return [
        *(guess if known(chance) else []),
        *(row | {"value": row["mean"], "signed": False} for row in shown),
        *(row | {"value": row["difference"], "signed": True} for row in pairs),
    ]


def is_verdict_row(study: Row, row: Row) -> bool:
    """Whether a pair is one that the verdict rests on."""
    given = study["verdict"]
    same = (row["metric"], row["labels_per_class"]) == (given.get("metric"), given.get("labels_per_class"))
    return same and row["baseline"] in BASELINES and leading_of(study) in (None, row["arm"])


def level_table(study: Row) -> Row:
    """{"metrics", "rows": [(labels, arm, seeds, {metric: level})]}: every arm's mean and interval."""
    arms = arms_of(study)
    metrics = metrics_of(study["levels"], lead_of(study)[0], task_of(study))
    cells: dict[tuple[Any, str], dict[str, Row]] = {}
    for row in study["levels"]:
        cells.setdefault((row["labels_per_class"], row["arm"]), {})[row["metric"]] = row
    order = sorted(cells, key=lambda key: (not known(key[0]), key[0] or 0, arms.index(key[1])))
    seeds = {key: max((row.get("seeds") or 0 for row in cells[key].values()), default=0) for key in order}
    return {"metrics": metrics, "rows": [(*key, seeds[key], cells[key]) for key in order]}


def pair_tables(study: Row) -> list[Row]:
    """Per metric: {"metric", "pairs"}; each pair gets its place on a scale that has zero in the middle, in percent."""
    arms, task = arms_of(study), task_of(study)

    def order(row: Row) -> tuple[bool, float, int]:
        return not is_verdict_row(study, row), row["labels_per_class"] or 0, arms.index(row["arm"])

    tables = []
    for metric in metrics_of(study["pairs"], lead_of(study)[0], task):
        rows = [row for row in study["pairs"] if row["metric"] == metric]
        ends = [row.get(end) for row in rows for end in ("difference", "low", "high")]
        reach = 1.04 * max((abs(end) for end in ends if known(end)), default=1.0) or 1.0
        pairs = []
        for row in sorted(rows, key=order):
            place = {end: 50 + 50 * row[end] / reach for end in ("difference", "low", "high") if known(row.get(end))}
            pairs.append(row | {"place": place, "verdict": is_verdict_row(study, row)})
        tables.append({"metric": metric, "name": metric_name(metric, task), "pairs": pairs})
    return tables


def class_rows(study: Row, labels: Any, most: int = 30) -> list[Row]:
    """The rows of per_class at `labels`, classes (or targets) as indices, their number (recall, ...) as "value".

    Of many classes the `most` with the worst numbers; none of a single target, of which the levels say the same.
    """
    task, classes = task_of(study), list(study["data"].get("classes") or [])
    key, sign = row_key(task), 1 if task.row_metric.higher_is_better else -1
    rows: list[Row] = []
    if len(classes) < 2:
        return rows
    for row in study["per_class"]:
        index = classes.index(row["class"]) if row["class"] in classes else row["class"]
        if row["labels_per_class"] == labels and isinstance(index, int) and 0 <= index < len(classes):
            rows.append(row | {"class": index, "value": row[key]})
    values: dict[int, list[float]] = {}
    for row in rows:
        values.setdefault(row["class"], []).append(sign * row["value"] if known(row["value"]) else 1.0)
    worst = sorted(values, key=lambda index: sum(values[index]) / len(values[index]))[:most]
    return [row for row in rows if row["class"] in worst]


def costs(study: Row) -> list[Row]:
    """What each arm computed, means over its finished cells; a pretraining is a row of its own."""
    groups: dict[tuple[str, Any], list[Row]] = {}
    for record in study["pretraining"]:
        groups.setdefault((f"pretraining {record['method']}", None), []).append(record)
    for cell in study["cells"]:
        groups.setdefault((cell["arm"], cell["labels_per_class"]), []).append(cell)
    rows = []
    for (name, labels), records in groups.items():
        done = [record for record in records if not record.get("error")]
        row: Row = {"name": name, "labels": labels, "done": len(done), "failed": len(records) - len(done)}
        for key in COSTS:
            values = [record[key] for record in done if known(record.get(key))]
            row[key] = sum(values) / len(values) if values else None
        rows.append(row)
    return rows


def total_cost(study: Row) -> Row:
    """{"runs", and each of COSTS}: of all finished runs together; None where no run says it."""
    done = [record for record in [*study["pretraining"], *study["cells"]] if not record.get("error")]
    total: Row = {"runs": len(done)}
    for key in COSTS:
        values = [record[key] for record in done if known(record.get(key))]
        total[key] = sum(values) if values else None
    return total


def failures(study: Row) -> list[Row]:
    """Every cell and pretraining that ended with an error: {"name", "labels", "seed", "error"}."""
    records = [*study["pretraining"], *study["cells"]]
    return [
        {
            "name": record.get("arm") or f"pretraining {record['method']}",
            "labels": record.get("labels_per_class"),
            "seed": record.get("seed"),
            "error": record["error"],
        }
        for record in records
        if record.get("error")
    ]
