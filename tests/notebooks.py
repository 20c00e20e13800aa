"""The notebooks of docs/notebooks, executed: by the test, at small sizes, and as a command, which makes their outputs.

    python tests/notebooks.py [NAME ...]

Streams, which tell how far a cell is and how long it takes, are not kept, nor the date in a figure: outputs change only
where results do. What the text claims is kept as numbers in the notebook's metadata, beside a digest of its cells.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
PAIRS = "{row['baseline']: row for row in result['pairs'] if row['metric'] == result['verdict']['metric']}"
CLAIMED: dict[str, dict[str, str]] = {
    "photos": {
        "kind": "result['verdict']['kind']",
        "pairs": PAIRS,
        "pool": "result['data']['pool']",
        "recall": "{row['arm'] + ' ' + row['class']: row['recall'] for row in result['per_class']}",
        "found": "found['class'].value_counts().to_dict()",
        "right": "right.groupby(truth).mean().to_dict() if NEW == 'new' else {}",
        "points": "[atlas['shown'], len(features)]",
    },
    "why": {
        "kind": "result['verdict']['kind']",
        "pairs": PAIRS,
        "table": "table('captured a class', 'single-view accuracy').T.to_dict()",
        "views": "[[one.low, one.high] for one in why.select(quantity='views', arm='mae - scratch', over='seeds')]",
        "conclusions": "[one.verdict for one in why.conclusions]",
    },
    "theory": {
        "losses": "losses['loss'].to_dict()",
        "captured": "{name: counts.tolist() for name, counts in found.items()}",
        "claims": "[[one['id'], one['clock'], one['state']] for one in table['claims'] + table['controls']]",
        "right": "right.T.to_dict()",
    },
}
"""Of each notebook, what its text makes claims about: names, and the expressions that give plain values."""
PARAMETERS = "parameters"
"""The tag of the cell that may be followed by other values of its names, as papermill has it."""


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest_of(notebook: NotebookNode) -> str:
    """Of the code, in order."""
    return sha256(json.dumps([cell.source for cell in code_of(notebook)]).encode()).hexdigest()[:16]


@contextmanager
def kernel(folder: Path) -> Iterator[KernelManager]:
    """A kernel that computes in `folder`, by sockets of files, since a free port may be taken before it is bound."""
    manager = KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
    settings = os.environ | {"IPYTHONDIR": str(folder / "ipython"), "WHYMASK_STORE": str(folder / "store")}
    manager.start_kernel(cwd=str(folder), env=settings, extra_arguments=["--HistoryManager.enabled=False"])
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


def execute(name: str, manager: KernelManager, parameters: Mapping[str, Any] | None = None) -> NotebookNode:
    """The notebook with its outputs, in a namespace of its own; in metadata.whymask the digest of its code as it is on
    disk, and the values of what its text makes claims about."""
    notebook = read(name)
    told = {"code": digest_of(notebook)}
    for cell in notebook.cells:
        if PARAMETERS in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{key} = {value!r}" for key, value in (parameters or {}).items())
    asked = ", ".join(f"{key!r}: {expression}" for key, expression in CLAIMED[name].items())
    before = nbformat.v4.new_code_cell("%reset -f")
    after = nbformat.v4.new_code_cell(f"import json; print(json.dumps({{{asked}}}, allow_nan=False))")
    run = nbformat.v4.new_notebook(cells=[before, *notebook.cells, after], metadata=notebook.metadata)
    NotebookClient(run, km=manager, timeout=None).execute()
    claimed = json.loads("".join(output.text for output in after.outputs if output.output_type == "stream"))
    notebook.metadata.whymask = told | {"claimed": claimed}
    return notebook


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Counted from 1, without streams and times."""
    for count, cell in enumerate(code_of(notebook), start=1):
        cell.metadata.pop("execution", None)
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if output.output_type != "stream"]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            drawn = output.get("data", {}).get("image/svg+xml")
            if drawn is not None:
                output.data["image/svg+xml"] = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    return notebook


def main() -> None:
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        with TemporaryDirectory() as folder, kernel(Path(folder)) as manager:
            nbformat.write(tidy(execute(name, manager)), FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main()
