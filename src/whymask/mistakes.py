"""What a command line means where it is not spelt as the flags are, and what is told of one that means nothing."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any

from whymask.errors import WhymaskError
from whymask.flags import Flag, flags_of, needed, takes_many

MEANT = {
    "output": "out", "output-dir": "out", "output-folder": "out", "outdir": "out", "dir": "out", "folder": "out",
    "save": "out", "o": "out", "label": "labels", "annotations": "labels", "targets": "labels", "model": "encoder",
    "network": "encoder", "arch": "encoder", "architecture": "encoder", "backbone": "encoder", "lr": "learning-rate",
    "rate": "learning-rate", "bs": "batch-size", "wd": "weight-decay", "epoch": "epochs", "gpu": "device",
    "cuda": "device", "cpu": "device", "gpus": "devices", "image-size": "size", "resolution": "size",
    "crop": "augment", "augmentation": "augment", "seed": "seeds", "repeats": "seeds", "repetitions": "seeds",
    "runs": "seeds", "time": "hours", "dry-run": "plan", "checkpoint": "from", "weights": "from", "init": "from",
    "resume": "out", "test-size": "test-share", "val-share": "test-share", "groups": "group-by", "cache": "store",
    "workers": "threads", "jobs": "threads", "metrics": "metric", "ratio": "mask-ratio", "masking-ratio": "mask-ratio",
    "dropout": "drop-path", "smoothing": "label-smoothing", "budget": "budgets", "shots": "budgets", "format": "to",
}  # fmt: skip
"""What other programs call it: what it is here."""
NEAR, CLOSE, MOST = 0.6, 0.1, 3
"""How alike two spellings must be for one to be meant by the other, from 0 to 1; how much less alike than the nearest
another that is named may be; and how many are named."""


def understood(commands: Mapping[str, Callable[..., Any]], arguments: Sequence[str]) -> list[str]:
    """The arguments, with each flag by its whole name: --epochs of pretrain is --pretrain.epochs, where no other ends
    so. Raises WhymaskError, which names the nearest, for a command or a flag that there is not, and for a value that
    is no number, or none of the words that a flag takes."""
    if not arguments:
        raise WhymaskError(f"no command was given. {_listed(commands)}")
    name = arguments[0]
    if name.startswith("-"):
        raise WhymaskError(f"{name} was given where a command was expected. {_listed(commands)}")
    if name not in commands:
        raise WhymaskError(f"{name}: no such command.{_meant(_alike(name, commands))} {_listed(commands)}")
    flags, given = flags_of(commands[name]), list(arguments)
    method = method_of(flags, arguments)
    for position, argument in enumerate(arguments):
        if not re.match(r"--?[A-Za-z]", argument):
            continue
        spelt, equals, value = argument.partition("=")
        flag, whole = _resolve(name, spelt, flags, method)
        given[position] = whole + equals + value
        values = [value] if equals else list(arguments[position + 1 : position + 2])
        if not flag.may_stand_alone:
            _check(flag, values[0] if values else "--")
    loose = _check_there(name, needed(commands[name]), flags, given)
    files = [argument for argument in loose if re.search(r"\.[A-Za-z]\w*$", argument)]
    if not takes_many(commands[name]) and len(files) > len(needed(commands[name])) > 0:
        raise WhymaskError(
            f"{files[-1]}: whymask {name} takes one {needed(commands[name])[-1][0]}; where a shell made several of a "
            "pattern, put it in quotes, as in 'shards/train-{000..009}.tar'"
        )
    return given


def _check_there(
    command: str, wanted: Sequence[tuple[str, str]], flags: Sequence[Flag], given: Sequence[str]
) -> list[str]:
    """What stands behind the command and is of no flag. Raises WhymaskError where what must stand there, or a flag
    without a default, was not given."""
    loose, rest = list[str](), list(given[1:])
    while rest:
        argument = rest.pop(0)
        flag = next((flag for flag in flags if argument.partition("=")[0] in flag.spellings), None)
        if flag is None:
            loose.append(argument)
        elif flag.takes_several:
            while rest and not rest[0].startswith("--"):
                rest.pop(0)
        elif flag.may_stand_alone:
            rest = rest[1:] if not flag.is_switch and rest[:1] in (["auto"], ["yes"], ["no"]) else rest
        elif "=" not in argument:
            rest = rest[1:]
    usage = " ".join(["whymask", command, *(metavar for metavar, _ in wanted)])
    for metavar, about in wanted[len(loose) :]:
        raise WhymaskError(f"{metavar} was not given, as in: {usage}. {about} whymask {command} --help says more.")
    spelt = {argument.partition("=")[0] for argument in given}
    for flag in flags:
        if flag.is_required and flag.name not in spelt:
            expected = f" Expected {_expected(flag)}." if flag.words else ""
            raise WhymaskError(f"{flag.name} was not given, as in: {usage} {flag.name} ... {flag.about}{expected}")
    return loose


def method_of(flags: Sequence[Flag], arguments: Sequence[str]) -> str | None:
    """The method that is given, also among the starts of a study, else the default; None for a command that has
    none."""
    known = next((flag for flag in flags if flag.name == "--method"), None)
    if known is None:
        return None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.partition("=")[0] == "--method":
            return argument.partition("=")[2] or following
    behind = arguments[arguments.index("--starts") + 1 :] if "--starts" in arguments else []
    starts = takewhile(lambda word: not word.startswith("--"), behind)
    return next((start for start in starts if start in known.words), known.default)


def _resolve(command: str, spelt: str, flags: Sequence[Flag], method: str | None) -> tuple[Flag, str]:
    """The flag that is meant, and its whole spelling. One of another method is only meant where it is spelt out."""
    name = spelt.replace("_", "-")
    for flag in flags:
        if name in flag.spellings:
            return flag, name
    methods = next((flag.words for flag in flags if flag.name == "--method"), ())
    flags = [flag for flag in flags if flag.group not in methods or flag.group == method]
    ends = [(flag, whole) for flag in flags for whole in flag.spellings if "--" + whole[2:].rpartition(".")[2] == name]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise WhymaskError(
            f"{spelt}: whymask {command} has several of them: {', '.join(whole for _, whole in ends)}. Give one."
        )
    raise WhymaskError(
        f"{spelt}: no such option of whymask {command}.{_meant(nearest(name, flags))} "
        f"whymask {command} --help shows the common ones, --help-all all."
    )


def nearest(spelt: str, flags: Sequence[Flag]) -> list[str]:
    """The flags that mean the same, else those that are spelt most alike, the nearest first."""
    group, _, last = spelt.lstrip("-").rpartition(".")
    flags = [flag for flag in flags if group and flag.group == group] or flags
    same = [flag.name for flag in flags if flag.last == MEANT.get(last)]
    return same or _alike(spelt, [whole for flag in flags for whole in flag.spellings])


def _alike(given: str, names: Iterable[str]) -> list[str]:
    """The most alike of the names, or of their parts behind a prefix."""
    spelt = given.lstrip("-").lower()

    def likeness(name: str) -> float:
        """That of a name's beginning is that of the name."""
        parts = {name.lstrip("-"), name.lstrip("-").rpartition(".")[2]}
        begun = {part[: len(spelt)] for part in parts if part[len(spelt) : len(spelt) + 1] == "-"}
        return max(SequenceMatcher(None, spelt, part.lower()).ratio() for part in parts | begun)

    near = sorted((name for name in names if likeness(name) >= NEAR), key=likeness, reverse=True)
    return [name for name in near if likeness(name) > likeness(near[0]) - CLOSE][:MOST]


def _check(flag: Flag, value: str) -> None:
    """Raises WhymaskError for a value that the flag cannot take."""
    if value.startswith("--"):
        raise WhymaskError(f"{flag.name} has no value: expected {_expected(flag)} behind it.")
    if value == "None" or value in flag.words:
        return
    if flag.words and not flag.takes_several and flag.number is None:
        raise WhymaskError(f"{flag.name} {value}: expected one of {', '.join(flag.words)}; choose one.")
    if flag.number is not None:
        try:
            flag.number(value)
        except ValueError:
            raise WhymaskError(f"{flag.name} {value}: expected {_expected(flag)}; change it.") from None


def _expected(flag: Flag) -> str:
    if flag.words and flag.number is None:
        return f"one of {', '.join(flag.words)}"
    kind = {int: "a whole number", float: "a number", None: "a value"}[flag.number]
    example = f", such as {flag.default}" if flag.number and isinstance(flag.default, int | float) else ""
    return f"{kind}{example}{', or ' if flag.words else ''}{', '.join(flag.words)}"


def _meant(names: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(names)}?" if names else ""


def _listed(commands: Iterable[str]) -> str:
    return f"The commands are {', '.join(commands)}. whymask --help says what each does."
