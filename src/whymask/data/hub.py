"""A data set of the Hugging Face hub: asked for once, since without a network the packages try for half a minute."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from whymask.errors import WhymaskError
from whymask.missing import instead_of

SECONDS = 5.0
"""How long the hub may take to answer, before what the cache holds is taken."""


def loaded_from_hub(name: str) -> Any:
    """What `datasets.load_dataset` gives for the id `name`: of the hub, or where that cannot be reached, which is then
    tried once, of its local cache. Raises WhymaskError where it gives nothing."""
    import datasets

    unreached = _why_unreached(name)
    try:
        with nullcontext() if unreached is None else _cache_alone():
            return datasets.load_dataset(name)
    except Exception as error:
        if unreached is None:
            why = f"no data set of that name could be loaded from the Hugging Face hub ({error})"
        else:
            why = f"the Hugging Face hub, which may have a data set of that name, cannot be reached ({unreached})"
        raise WhymaskError(
            f"{name}: no such file or folder here, and {why}; check the path, or the name and the connection"
            f"{instead_of(name)}"
        ) from error


def _why_unreached(name: str) -> str | None:
    """Why the hub gives no answer; None where it gives one, be it that there is no such data set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(name, timeout=SECONDS)
    except HfHubHTTPError:
        return None
    except Exception as error:  # whatever the package that it asks with raises; which, depends on the version
        return f"{type(error).__name__}: {error}"
    return None


@contextmanager
def _cache_alone() -> Iterator[None]:
    """Within it nothing is asked of the hub, as with the variable HF_HUB_OFFLINE, which is read too early for this."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
