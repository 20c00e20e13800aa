"""Heads of classifiers from elsewhere: the linear layer in a file of weights, and what its outputs are called."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import Tensor

from whymask.encoders.described import config_beside
from whymask.encoders.names import without_prefixes
from whymask.encoders.transformers_names import State
from whymask.encoders.weight_files import file_in, read_weights
from whymask.errors import WhymaskError

HEADS = re.compile(r"(?:head|fc|classifier|last_linear)(?:\.fc|\.l|\.\d+)?\.weight")
"""What timm and transformers call a classifier's last layer."""
DISTILLED = ("head_dist.weight", "distillation_classifier.weight")
NORMS = (r"(?:.*\.)?(?:fc_norm|pooler\.layernorm)\.weight", r"(?:norm|layernorm|post_layernorm)\.weight")
"""Of the mean over patches, and of every token."""
LISTED = 5


def head_of(path: Path, width: int) -> tuple[Tensor, Tensor]:
    """Weight (k, D) and bias (k,) of the linear layer on D = `width` pooled features, in the weights at `path`.

    Raises WhymaskError where there is none, or not one alone."""
    state = without_prefixes(read_weights(file_in(path))[0])
    fitting = [key for key in _heads(state, path) if state[key].shape[1] == width]
    if len(fitting) != 1:
        there = ", ".join(f"{key} {tuple(state[key].shape)}" for key in _heads(state, path))
        raise WhymaskError(
            f"one head on the {width} pooled features of its network was expected, and {file_in(path)} holds {there}; "
            "give another classifier"
        )
    weight = state[fitting[0]].flatten(1).float()  # of some a 1x1 convolution
    bias = state.get(fitting[0].removesuffix("weight") + "bias")
    return weight, torch.zeros(len(weight)) if bias is None else bias.float()


def count_outputs(path: Path) -> int:
    """Of the head in the weights at `path`. Raises WhymaskError where they have none."""
    state = without_prefixes(read_weights(file_in(path), device="meta")[0])
    return len(state[_heads(state, path)[0]])


def _heads(state: State, path: Path) -> list[str]:
    found = [key for key in state if HEADS.fullmatch(key)]
    if two := [key for key in DISTILLED if key in state]:
        raise WhymaskError(
            f"{file_in(path)} holds two heads on two tokens ({two[0]} beside the usual one), and one on the pooled "
            "features was expected; give a classifier that was not distilled"
        )
    if not found:
        raise WhymaskError(f"{file_in(path)} holds no classifier's head; give a network that was fine-tuned on classes")
    return found


def reads_normed_mean(path: Path) -> bool:
    """Whether the weights at `path` have a norm of the mean over patches, and none of every token."""
    keys = without_prefixes(read_weights(file_in(path), device="meta")[0])
    of_mean, of_tokens = (any(re.fullmatch(norm, key) for key in keys) for norm in NORMS)
    return of_mean and not of_tokens


def outputs_of(path: Path, count: int) -> list[set[str]]:
    """What each of `count` outputs may be called, by the description beside the weights at `path` or, where that says
    nothing, as one of timm's sets of ImageNet's classes: names, descriptions, and what commas in these part.

    Raises WhymaskError where nothing tells."""
    about = config_beside(file_in(path))
    told = about | (about.get("pretrained_cfg") or {})
    names, descriptions = told.get("label_names") or told.get("id2label"), told.get("label_descriptions") or {}
    if not names:
        subset = infer_imagenet_subset({"num_classes": count})
        if subset is None:
            raise WhymaskError(
                f"nothing says what the {count} outputs of {path} are; give their names, in order, as label_names in "
                "a config.json beside the weights"
            )
        info = ImageNetInfo(subset)
        names, descriptions = info.label_names(), info.label_descriptions(as_dict=True)
    numbered = {int(number): name for number, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    return [_called(str(numbered.get(number, "")), descriptions) for number in range(count)]


def outputs_for(classes: Sequence[str], called: Sequence[set[str]], who: str) -> list[int]:
    """Which output of `who` each class is: the one that is called so, whatever the case, with _ and - for spaces.

    Raises WhymaskError, which names them, for classes that none or several are called."""
    found = {name: [number for number, names in enumerate(called) if _plain(name) in names] for name in classes}
    if unknown := [name for name, numbers in found.items() if not numbers]:
        every = sorted(set().union(*called))
        near = [match for name in unknown[:LISTED] for match in get_close_matches(_plain(name), every, n=1)]
        raise WhymaskError(
            f"{who} has {len(called)} outputs, none called {', '.join(unknown[:LISTED])}"
            f"{f' and {len(unknown) - LISTED} more' if len(unknown) > LISTED else ''}; call the images' classes as it "
            f"calls its outputs, such as {', '.join(near or every[:2])}"
        )
    if twice := {name: numbers for name, numbers in found.items() if len(numbers) > 1}:
        name, numbers = next(iter(twice.items()))
        own = called[numbers[0]].difference(*(called[other] for other in numbers[1:]))
        raise WhymaskError(
            f"{who} calls {len(numbers)} outputs {name}: numbers {', '.join(map(str, numbers))}; call the class what "
            f"one of them alone is called, such as {min(own or called[numbers[0]], key=len)}"
        )
    chosen = [numbers[0] for numbers in found.values()]
    if again := [name for name, number in zip(found, chosen, strict=True) if chosen.count(number) > 1]:
        raise WhymaskError(f"{' and '.join(again)} are the same output of {who}; make them one class")
    return chosen


def _called(name: str, descriptions: dict[str, str]) -> set[str]:
    texts = [name, descriptions.get(name, "")]
    return {_plain(part) for text in texts for part in (text, *text.split(","))} - {""}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
