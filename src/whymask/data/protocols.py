"""What an address is, and whether what asks for it is installed: known before anything slow is imported."""

import re
from difflib import get_close_matches
from importlib.util import find_spec

from whymask.errors import WhymaskError

DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}
"""By protocol, the package to install."""


def is_address(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def protocol_of(address: str) -> str:
    return address.partition("://")[0].lower()


def check_address(address: str) -> None:
    """Raises WhymaskError where no file system that fsspec knows is called so, or the package for it is not there."""
    from fsspec import available_protocols

    protocol = protocol_of(address)
    if protocol not in available_protocols():
        near = "".join(f"; did you mean {name}://?" for name in get_close_matches(protocol, available_protocols(), n=1))
        raise WhymaskError(
            f"{address}: no file system is called {protocol}; s3://, gs://, https:// or another that fsspec knows was "
            f"expected{near}"
        )
    package = DRIVERS.get(protocol)
    if package is not None and find_spec(package) is None:
        raise WhymaskError(f"{address}: {protocol}:// needs a package that is not here; pip install {package}")
