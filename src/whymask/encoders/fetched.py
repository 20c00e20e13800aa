"""Weights by name: timm's, with its tag, or a repository of the Hugging Face hub. They are fetched once; then the hub's
cache on this machine is read, and nobody is asked."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm

from whymask.encoders.settings import HUB
from whymask.encoders.weight_files import SHARDS, WHOLE, file_in
from whymask.errors import WhymaskError
from whymask.missing import instead_of
from whymask.progress import say

SECONDS = 5.0
"""How long the hub may take to answer."""
BESIDE = ("config.json", "preprocessor_config.json", "README.md")


def fetched(origin: str) -> str:
    """The path of weights: `origin` itself where it is one, or the folder in the hub's cache of what it names: weights
    of timm, or hf-hub:ORG/MODEL, which may end in @REVISION.

    Raises WhymaskError for a name that nobody knows, and where the weights are not here and cannot be fetched, with
    what to fetch where."""
    if Path(origin).exists():
        return origin
    repository, _, revision = _repository(origin).partition("@")
    return _here(repository, revision or None) or _download(origin, repository, revision or None)


def told(file: Path) -> str:
    """The file as a run remembers it: one of the hub's cache by repository and revision, the same on any machine."""
    match = re.search(r"/models--([^/]+?)--([^/]+)/snapshots/([^/]+)/[^/]+$", file.absolute().as_posix())
    return f"{HUB}{match[1]}/{match[2]}@{match[3]}" if match else str(file)


def _repository(origin: str) -> str:
    """Where the hub has them."""
    if origin.startswith(HUB):
        return origin.removeprefix(HUB)
    name, _, tag = origin.partition(".")
    is_known = timm.is_model_pretrained(name) and (not tag or origin in timm.list_pretrained(f"{name}.*"))
    cfg = timm.models.get_pretrained_cfg(origin) if is_known else None
    if cfg is not None and cfg.hf_hub_id:
        return cfg.hf_hub_id
    if cfg is not None and cfg.url:
        raise WhymaskError(
            f"{origin}: timm has these weights not on the hub, but at {cfg.url}; download that file, and give it "
            f"together with --encoder {name}"
        )
    known = timm.list_pretrained(f"{name}.*") or get_close_matches(origin, timm.list_pretrained())
    near = f"; timm has {', '.join(known[:4])}" if known else ""
    raise WhymaskError(
        f"{origin}: no such file or folder, and no name of timm's weights{near}; check it, or give {HUB}ORG/MODEL of "
        f"the Hugging Face hub{instead_of(origin)}"
    )


def _here(repository: str, revision: str | None) -> str | None:
    """The folder of the cache that holds their description and the weights; None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    described = try_to_load_from_cache(repository, BESIDE[0], revision=revision)
    if not isinstance(described, str):
        return None
    folder = Path(described).parent
    return str(folder) if file_in(folder).exists() else None


def _download(origin: str, repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info: Any = HfApi().model_info(repository, revision=revision, timeout=SECONDS)
        there = {file.rfilename for file in info.siblings}
        whole = next((name for name in (WHOLE[0], SHARDS, *WHOLE[1:]) if name in there), WHOLE[0])
        say(f"{origin} is fetched from {repository} of the Hugging Face hub")
        folder = snapshot_download(
            repository,
            revision=info.sha,
            allow_patterns=[*BESIDE, whole, *(["model-*.safetensors"] if whole == SHARDS else [])],
            etag_timeout=SECONDS,
        )
    except RepositoryNotFoundError as error:
        gated = isinstance(error, GatedRepoError)
        why = "asks for its terms to be accepted; accept them there, and log in by 'hf auth login'"
        raise WhymaskError(
            f"{origin}: {repository} of the Hugging Face hub {why if gated else 'is not there; check the name'}"
        ) from error
    except Exception as error:  # whatever the package that it asks with raises
        raise WhymaskError(
            f"{origin}: its weights are not on this machine, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__}); type 'hf download {repository}' where it can, copy the folder that this "
            f"prints, and give the copy in place of the name"
        ) from error
    if not file_in(Path(folder)).exists():
        raise WhymaskError(f"{origin}: {repository} holds no {' or '.join(WHOLE)}; give another repository")
    return folder
