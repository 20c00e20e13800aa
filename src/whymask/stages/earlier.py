"""config.json as the first versions wrote it: cells by their folder's name, each stage with keys of its own."""

import re
from typing import Any

PRETRAIN = "pretrain-"
CELL = re.compile(r"(?:search-)?(?P<arm>.+)-(?P<budget>[^-]+)-(?P<seed>-?\d+)(?:-lr.*)?")
"""ARM-BUDGET-SEED, and of a search's trials search-ARM-BUDGET-SEED-lr..-decay.."""


def known_of_earlier_versions(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `RunRecord` that such a config tells; what it does not tell is left out."""
    if "cell" in config:
        return _cell(config)
    if "control" in config:
        about = {"mask_ratio": config["mask_ratio"]} if "mask_ratio" in config else {}
        known = {"stage": "finetune", "arm": config["control"], "training": config["like"], "about": about}
        return known | {key: config[key] for key in ("budget", "seed", "data")}
    match config.get("stage"):
        case "pretrain":
            known = _known(config, "stage", "seed", "data", "encoder", "method", "training", "origin")
            known |= {"arm": config["method"], "method_settings": config["method_config"]}
            return known | {"augment": _augment(config["augment"])}
        case "finetune":
            known = _known(config, "stage", "budget", "seed", "encoder", "training", "augment", "data")
            scratch = config["from"] == "scratch"  # else which method, the run says that it began with
            return known | ({"arm": "scratch", "origin": None} if scratch else {"origin": config["from"]})
        case "probe":
            about = {"neighbours": config["neighbours"]}
            return _known(config, "stage", "budget", "seed", "data") | {"origin": config["from"], "about": about}
    return config  # of another kind of run


def _known(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Those keys that it has: the first of the first versions had fewer."""
    return {key: config[key] for key in keys if key in config}


def _augment(drawn: dict[str, Any] | None) -> str:
    return "none" if drawn is None else "crop-flip" if drawn["flip"] else "crop"


def _cell(config: dict[str, Any]) -> dict[str, Any]:
    name, settings = config["cell"], config["settings"]
    method = settings["method"]
    about = {"method": method, "method_settings": settings[method.replace("-", "_")]}
    common = {"data": config["data"], "encoder": settings["encoder"], "augment": settings["augment"]}
    if name.startswith(PRETRAIN):
        arm, seed = name.removeprefix(PRETRAIN).rsplit("-", 1)
        return common | about | {"stage": "pretrain", "arm": arm, "seed": int(seed), "training": settings["pretrain"]}
    match = CELL.fullmatch(name)
    if match is None:
        return config
    arm, seed, budget = match["arm"], int(match["seed"]), match["budget"].replace("percent", "%")
    known = common | {"stage": "finetune", "arm": arm, "budget": budget, "seed": seed}
    if arm == method:
        return known | about | {"origin": f"../{PRETRAIN}{arm}-{seed}"}
    return known | ({"origin": settings["init"], "partial": settings["init_partial"]} if arm == "init" else {})
