"""Scripts of the project as the command line has them, without the seconds that Python takes to import PyTorch."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from kills import CONTEXT

ROOT = Path(__file__).resolve().parents[1]


def run_script(name: str, *arguments: str, cwd: Path) -> CompletedProcess[str]:
    """What `python scripts/NAME.py ...` does in a folder, in a process forked from one that has PyTorch in memory."""
    with TemporaryDirectory() as outputs:
        process = CONTEXT.Process(target=_run, args=(name, arguments, cwd, Path(outputs)))
        process.start()
        process.join(300)
        process.kill()
        process.join()
        out, err = ((Path(outputs) / stream).read_text() for stream in ("stdout", "stderr"))
    return CompletedProcess([name, *arguments], process.exitcode, out, err)


def _run(name: str, arguments: tuple[str, ...], cwd: Path, outputs: Path) -> None:
    os.chdir(cwd)
    for number, stream in ((1, "stdout"), (2, "stderr")):
        file = (outputs / stream).open("a", buffering=1)
        os.dup2(file.fileno(), number)  # for processes that this one starts
        setattr(sys, stream, file)
    multiprocessing.set_start_method("fork", force=True)  # what Python begins with on Linux
    script = ROOT / "scripts" / f"{name}.py"
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
