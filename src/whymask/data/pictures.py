"""Images behind addresses, each fetched once and then kept."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from whymask.data.opening import open_bytes
from whymask.data.remote import AT_ONCE, retried, system_of
from whymask.data.source import RawImage
from whymask.data.stamps import digest_of
from whymask.disk import write_bytes
from whymask.errors import WhymaskError
from whymask.progress import Decoding, say

HOPELESS = 5
"""Addresses of one host that do not answer, one after another and none before, from which on it is not asked."""


class Pictures:
    """Files behind addresses, each in `cache` once it came. A further command asks only for those that did not."""

    def __init__(self, name: str, addresses: Sequence[str], cache: Path):
        self.name, self.addresses = name, list(addresses)
        self.folder = cache / "fetched" / "files"
        self.failed: dict[str, str] = {}
        self.silent: Counter[str] = Counter()
        self.answered: set[str] = set()
        wanting = [address for address in dict.fromkeys(self.addresses) if not self.path(address).exists()]
        if wanting:
            self._fetch(wanting)

    def path(self, address: str) -> Path:
        name = digest_of([address])
        return self.folder / name[:2] / name

    def read(self, row: int) -> RawImage:
        return open_bytes(self.file(row).read_bytes())

    def file(self, row: int) -> Path:
        """Raises WhymaskError, which says why, where it did not come."""
        address = self.addresses[row]
        if address in self.failed:
            raise WhymaskError(self.failed[address])
        return self.path(address)

    @property
    def stamp(self) -> str:
        """Changes with what came."""
        return digest_of(f"{address} {self._size(address)}" for address in self.addresses)

    @property
    def notes(self) -> list[str]:
        if not self.failed:
            return []
        address, why = next(iter(self.failed.items()))
        return [
            f"warning: {len(self.failed):,} of {len(self.addresses):,} addresses gave nothing, such as {address}: "
            f"{why}; the others are taken, and the same command asks for these again"
        ]

    def _size(self, address: str) -> int:
        return -1 if address in self.failed else self.path(address).stat().st_size

    def _fetch(self, wanting: Sequence[str]) -> None:
        there = len({*self.addresses}) - len(wanting)
        say(f"fetching {len(wanting):,} of {len({*self.addresses}):,} images of {self.name}, kept in {self.folder}")
        progress = Decoding("fetching")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for done, (address, why) in enumerate(zip(wanting, pool.map(self._came, wanting), strict=True), 1):
                    if why is not None:
                        self.failed[address] = why
                    progress(there + done, there + len(wanting))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if 2 * len(self.failed) > len({*self.addresses}):
            listed = "; ".join(f"{address}: {why}" for address, why in list(self.failed.items())[:3])
            raise WhymaskError(
                f"{self.name}: {len(self.failed):,} of {len({*self.addresses}):,} addresses gave nothing ({listed}); "
                "what came is kept, and the same command asks for the others; check the addresses and the connection"
            )

    def _came(self, address: str) -> str | None:
        """Why an address gave nothing; None where it is there now."""
        host = urlsplit(address).netloc
        if self.silent[host] >= HOPELESS and host not in self.answered:
            return f"{host} does not answer"
        try:
            system, path = system_of(address)
            data = retried(address, lambda: system.cat_file(path))
        except WhymaskError as error:
            self.silent[host] += 1
            return str(error)
        self.answered.add(host)
        self._keep(self.path(address), data)
        return None

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            write_bytes(path, data)
        except WhymaskError as error:
            raise WhymaskError(
                f"{self.folder}: what is fetched cannot be written there ({error.__cause__}); make room, or give "
                "another cache folder: the same command goes on with what came"
            ) from error
