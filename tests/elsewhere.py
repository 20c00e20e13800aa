"""Code run where whymask cannot be imported: a process that forks for each piece, its libraries imported once.

As a program it reads {"folder", "code"} a line and answers {"error"} a line, null where the code ran to its end.
"""

import json
import os
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path


@cache
def _process(library: str) -> "subprocess.Popen[str]":
    """One a library, so that no code finds another one imported."""
    program = [sys.executable, __file__, library]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_elsewhere(folder: Path, code: str, library: str) -> None:
    """Run `code` with `folder` as its working directory. AssertionError, with the traceback, where it fails."""
    process = _process(library)
    assert process.stdin is not None and process.stdout is not None
    print(json.dumps({"folder": str(folder), "code": code}), file=process.stdin, flush=True)
    error = json.loads(process.stdout.readline())["error"]
    assert error is None, error


def _serve(library: str) -> None:
    sys.modules["whymask"] = None  # type: ignore[assignment]
    sys.modules["wandb"] = None  # type: ignore[assignment]  # timm imports it where it is there, for half a second
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the code prints is no answer
    for name in {"timm": ["timm", "torch"], "transformers": ["transformers", "timm", "torch"]}.get(library, [library]):
        __import__(name)
    for line in sys.stdin:
        asked = json.loads(line)
        reading, writing = os.pipe()
        if os.fork() == 0:
            error = None
            try:
                os.chdir(asked["folder"])
                exec(asked["code"], {"__name__": "__main__"})
            except BaseException:
                error = traceback.format_exc()
            os.write(writing, json.dumps({"error": error}).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            print(answer.read() or '{"error": "it was killed"}', file=answers, flush=True)
        os.wait()


if __name__ == "__main__":
    _serve(sys.argv[1])
