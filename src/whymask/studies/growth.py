"""A study that goes on with more seeds or further budgets: its cells are valid, its verdict is of one that grew.

A cell depends on its own arm, budget and seed alone. That seeds were added, perhaps because a first verdict was not
liked, is kept and stands on the page.
"""

from typing import Any

from whymask.disk import read_json, write_record
from whymask.runs import RunFolder

BEFORE = "before"
"""Of config.json: seeds and budgets that the study had, the first first."""
MAY_GROW = ("seeds", "budgets", "worth_budgets")

Config = dict[str, Any]


def grown(there: Config, given: Config) -> Config:
    """`there`, a study's config in its folder, with the seeds and budgets that are `given`, where these only add to it:
    the first seed, and the smallest budget, which the verdict is given at, stay."""
    old, new = there.get("settings", {}), given["settings"]
    if not {"first_seed", *MAY_GROW} <= old.keys():  # of another kind of run
        return there
    seeds = old["first_seed"] == new["first_seed"] and old["seeds"] <= new["seeds"]
    budgets = old["budgets"][:1] == new["budgets"][:1] and set(old["budgets"]) <= set(new["budgets"])
    every = {*new["budgets"], *new["worth_budgets"]}
    if not (seeds and budgets and set(old["worth_budgets"]) <= every):
        return there
    return there | {"settings": old | {name: new[name] for name in MAY_GROW}}


def note_growth(folder: RunFolder, config: Config) -> None:
    """Keep in config.json that the study is now what `config` says, and what it was."""
    stored = read_json(folder.path / "config.json")
    now, was = config["settings"], stored["config"]["settings"]
    if any(now[name] != was[name] for name in MAY_GROW):
        before = [*stored.get(BEFORE, []), {name: was[name] for name in MAY_GROW}]
        write_record(folder.path / "config.json", stored | {"config": config, BEFORE: before})


def begun_with(folder: RunFolder) -> Config | None:
    """The seeds and budgets that the study began with; None where it did not grow."""
    return next(iter(read_json(folder.path / "config.json").get(BEFORE, [])), None)
