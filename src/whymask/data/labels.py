"""Which labels a source has, and which task they make where none was named."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from whymask.data.settings import LabelSettings
from whymask.errors import WhymaskError
from whymask.tasks import TASKS, Classification, Multilabel, RawLabels, Regression, Task

LABEL, TARGET = "label", "target"
OTHER_NAMES = ("labels", "class", "class_name", "category", "y")
"""Of a column of labels, where none is called label."""
MOST_CLASSES = 10
"""Different whole numbers in a column called target up to which it is asked whether they are classes."""
NOTHING = ("", "nan")
"""Texts of a table's cell without a label, in any case."""
Column = Sequence[Any] | np.ndarray


def find_labels(
    source: str,
    columns: Iterable[str],
    read: Callable[[str], Column],
    asked: LabelSettings | None,
    default: str | None = None,
) -> tuple[list[str], RawLabels | None]:
    """The columns of a source that hold labels, and what they hold; none where it has no such column.

    `read` gives the values of a column: one for each image, or an array (N, L). Those that were asked for are taken,
    else "label", else `default`, else the only one of OTHER_NAMES, else "target", in any case; for regression "target"
    first.
    """
    columns, asked = list(columns), asked or LabelSettings()
    if asked.label_columns:
        missing = [column for column in asked.label_columns if column not in columns]
        if missing:
            raise WhymaskError(
                f"{source}: label columns {', '.join(missing)} were asked for; there are "
                f"{', '.join(columns) or 'none'}; choose among these"
            )
        return list(asked.label_columns), _read(source, list(asked.label_columns), read, asked)
    by_name = {column.lower(): column for column in reversed(columns)}
    others = [by_name[name] for name in OTHER_NAMES if name in by_name]
    label, target = by_name.get(LABEL) or default or (others[0] if len(others) == 1 else None), by_name.get(TARGET)
    found = (target or label) if asked.task == Regression.name else (label or target)
    if found is None:
        return [], None
    return [found], _read(source, [found], read, asked)


def column_of_places(
    source: str,
    columns: Sequence[str],
    found: Sequence[str],
    labels: Callable[[list[str]], list[str]],
    asked: LabelSettings,
    *,
    task: str,
    held: str,
    learnt: str,
    others_hold: str,
) -> str | None:
    """The one of a source's `columns` that holds what a dense task learns, of those that are `found`; None without any.
    `labels` says which of some columns are of other labels; `held`, `learnt` and `others_hold` are the words for it.

    Raises WhymaskError where there are two, or other labels beside it and no task was asked for."""
    if len(found) > 1:
        raise WhymaskError(
            f"{source}: the columns {', '.join(found)} hold {held}; one was expected; name it by --label-columns"
        )
    if not found:
        return None
    others = labels([column for column in columns if column != found[0]]) if asked.label_columns is None else []
    if others and asked.task == "auto":
        raise WhymaskError(
            f"{source}: the column {found[0]} holds {held}, and {', '.join(others)} {others_hold}; give --task {task} "
            f"to learn the {learnt}, or another task, such as classification, to learn the labels"
        )
    return found[0]


def label_notes(columns: Iterable[str], used: Sequence[str], raw: RawLabels | None) -> list[str]:
    """What is to be said of a table's columns of labels."""
    if raw is None:
        return [f"no column of labels among {', '.join(columns) or 'none'}; --label-columns names one"]
    name = used[0].lower()
    is_plain = len(used) > 1 or name == LABEL or (name == TARGET and _are_numbers(raw.values))
    return [] if is_plain else [f"the column {used[0]} is read as the labels"]


def read_labels(raw: RawLabels | None, count: int, asked: LabelSettings | None, source: str) -> tuple[Task, np.ndarray]:
    """The task, with the names of its classes or targets, and the labels of `count` images.

    Where nothing was `asked`, labels do not matter and are not read.
    """
    if asked is None or raw is None:
        task = TASKS.get(asked.task if asked else "auto", Classification)()
        return task, task.unlabelled(count)
    kind = _derived(raw, source) if asked.task == "auto" else TASKS[asked.task]
    return kind.encode(raw, source)


def _read(source: str, columns: list[str], read: Callable[[str], Column], asked: LabelSettings) -> RawLabels:
    if len(columns) == 1:
        values = read(columns[0])
        if not isinstance(values, np.ndarray):
            values = [None if _is_nothing(value, asked) else value for value in values]
        return RawLabels(values, column=columns[0], separator=asked.label_separator)
    numbers = [_numbers(source, column, read(column)) for column in columns]
    return RawLabels(np.stack(numbers, axis=1), tuple(columns), separator=asked.label_separator)


def _is_nothing(value: Any, asked: LabelSettings) -> bool:
    text = str(value).strip()
    return text.lower() in NOTHING or _are_same(text, asked.unlabelled)


def _are_same(text: str, other: str | None) -> bool:
    """Also -1 and -1.0."""
    if other is None or text == other:
        return text == other
    return _is_number(text) and _is_number(other) and float(text) == float(other)


def _numbers(source: str, column: str, values: Column) -> np.ndarray:
    """float64 (N,), NaN where there is no value."""
    words = {"": np.nan, "true": 1.0, "false": 0.0}
    try:
        return np.array(
            [
                np.nan
                if value is None
                else words[key]
                if (key := str(value).strip().lower()) in words
                else float(value)
                for value in values
            ]
        )
    except (ValueError, TypeError) as error:
        raise WhymaskError(
            f"{source}: the label column {column} holds no numbers ({error}); with several label columns, 0 or 1 for "
            "each class, or the numbers to predict, were expected; name one column, or clean it"
        ) from None


def _derived(raw: RawLabels, source: str) -> type[Task]:
    """What labels plainly are; WhymaskError, which asks, where they could be two things."""
    is_target = raw.column.lower() == TARGET and _are_numbers(raw.values)
    if isinstance(raw.values, np.ndarray) and raw.values.ndim == 2:
        if is_target:
            return Regression
        if np.isin(raw.values[~np.isnan(raw.values)], (-1, 0, 1)).all():
            return Multilabel
        raise WhymaskError(
            f"{source}: labels of shape {raw.values.shape} that are not 0 or 1; one class an image, or 0 or 1 for each "
            "of several, was expected; give --task regression where they are numbers to predict"
        )
    if any(isinstance(value, list | tuple | np.ndarray) for value in raw.values):
        return Regression if is_target else Multilabel
    texts = {str(value).strip() for value in raw.values if value is not None} - {"", "nan"}
    may_be_classes = len(texts) <= MOST_CLASSES and not any(map(_is_decimal, texts))
    if is_target and len(texts) > 2 and not may_be_classes:
        return Regression
    if is_target or (any(map(_is_decimal, texts)) and all(map(_is_number, texts))):
        raise WhymaskError(
            f"{source}: the column {raw.column} holds numbers, such as {', '.join(sorted(texts)[:2])}, which may be "
            "classes or amounts; give --task classification, where each is a class, or --task regression"
        )
    return Multilabel if any(raw.separator in text for text in texts) else Classification


def _are_numbers(values: Column) -> bool:
    texts = {str(value).strip() for value in np.asarray(values, dtype=object).ravel() if value is not None} - {""}
    return bool(texts) and all(_is_number(text) for text in texts)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_decimal(text: str) -> bool:
    return _is_number(text) and math.isfinite(float(text)) and float(text) % 1 != 0
