"""What an explanation found, as an object: numbers, conclusions, figures, and a page."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from whymask.disk import read_arrays, read_json
from whymask.errors import WhymaskError
from whymask.explanations.conclusions import Conclusion
from whymask.explanations.numbers import Number
from whymask.explanations.page.figures import figures_of
from whymask.explanations.page.write import html_of, write_why_page

if TYPE_CHECKING:
    import pandas

SCHEMA = 1


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found. In a notebook it shows itself, elsewhere the finding in a sentence."""

    folder: Path
    """With explain.json, pictures.npz and the page."""
    lead: str
    """The finding in a sentence."""
    setting: dict[str, Any]
    """Of what, and how."""
    provenance: dict[str, Any]
    """Where and when, by which versions."""
    arms: list[dict[str, Any]]
    """Name, role, kind, seeds and folders of the networks."""
    numbers: list[Number]
    """Every number, with its interval."""
    conclusions: list[Conclusion]
    """What the numbers allow to be said."""
    warnings: list[str]
    """What speaks against the numbers, such as test images that may have been trained on."""
    notes: list[str]
    """What was left out, and why."""
    pictures: dict[str, np.ndarray]
    """Example images; `evidence/ARM` (m, gh, gw) and more, see `whymask.explanations.page.write`."""

    @classmethod
    def load(cls, folder: str | Path) -> "Explanation":
        """Raises WhymaskError when `folder` holds no explanation."""
        folder = Path(folder)
        if not (folder / "explain.json").exists():
            raise WhymaskError(f"{folder} holds no explanation (no explain.json); make one with whymask explain")
        told = read_json(folder / "explain.json")
        told["numbers"] = [Number(**row) for row in told["numbers"]]
        told["conclusions"] = [Conclusion(**row) for row in told["conclusions"]]
        pictures = read_arrays(folder / "pictures.npz")
        return cls(folder, **{field.name: told[field.name] for field in fields(cls)[1:-1]}, pictures=pictures)

    def to_dict(self) -> dict[str, Any]:
        """The content of explain.json."""
        told = {field.name: getattr(self, field.name) for field in fields(self)[1:-1]}
        told["numbers"] = [asdict(row) for row in self.numbers]
        told["conclusions"] = [asdict(row) for row in self.conclusions]
        return {"schema": SCHEMA, **told}

    def select(self, **wanted: Any) -> list[Number]:
        """The numbers whose attributes are as given, such as ``select(measure="views", quantity="views")``."""
        return [row for row in self.numbers if all(getattr(row, key) == value for key, value in wanted.items())]

    def to_pandas(self) -> "pandas.DataFrame":
        """The numbers, a row each."""
        import pandas

        return pandas.DataFrame([asdict(row) for row in self.numbers])

    def figures(self) -> dict[str, Figure]:
        """The page's figures by name, as matplotlib figures."""
        return {name: figure for name, (figure, _) in figures_of(self.to_dict(), self.pictures).items()}

    def write_page(self, *, images: bool = True, names: bool = True) -> Path:
        """report.html and figures/ in the folder; without images, or file and class names, on demand."""
        return write_why_page(self.folder, images=images, names=names)

    def __repr__(self) -> str:
        return f"<explanation of {len(self.numbers):,} numbers: {self.lead}>"

    def _repr_html_(self) -> str:
        return html_of(self.to_dict(), self.pictures)
