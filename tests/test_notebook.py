"""The tutorial runs from its first cell to its last, and what is committed of it is what it says today.

As a script, `python tests/test_notebook.py`, it executes the tutorial and keeps the outputs.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
FIGURES = 8
LARGEST = 700_000
"""Bytes of the file."""
PNG = b"\x89PNG\r\n\x1a\n"
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

source, target, folder = sys.argv[1:]
notebook = nbformat.read(source, 4)
client = NotebookClient(
    notebook,
    timeout=300,
    allow_errors=True,
    coalesce_streams=True,
    record_timing=False,
    resources={"metadata": {"path": folder}},
)
client.execute()
nbformat.write(notebook, target)
"""
"""In a process of its own: kernels leave sockets behind, of which this one would warn."""


def executed(source: Path, target: Path) -> NotebookNode:
    """A notebook as a fresh kernel runs it in docs/, whatever is there before."""
    command = [sys.executable, "-c", EXECUTE, str(source), str(target), str(ROOT / "docs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=360)
    assert done.returncode == 0, done.stderr
    return nbformat.read(target, 4)


def code_cells(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """By their names."""
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def printed(cell: NotebookNode) -> str:
    """What a cell wrote to the standard output."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pictures(notebook: NotebookNode) -> list[bytes]:
    """All images, in their order."""
    outputs = [output for cell in code_cells(notebook).values() for output in cell.outputs]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def shape(output: NotebookNode) -> Any:
    """What of an output is the same on every machine: its kind, and its text but for fractions and spaces."""
    if output.output_type != "stream":
        return output.output_type, sorted(output.get("data", {}))
    text = re.sub(r"-?\d+\.\d+(e[-+]?\d+)?", "#", output.text)
    return output.name, text.split()


def check_sound(notebook: NotebookNode) -> None:
    """No cell raises or warns."""
    for name, cell in code_cells(notebook).items():
        for output in cell.outputs:
            assert output.output_type != "error", f"{name}: {output.ename}: {output.evalue}"
            assert output.get("name") != "stderr", f"{name}: {output.text}"


def check_fresh(committed: NotebookNode, today: NotebookNode) -> None:
    """The committed outputs are those of today, cell by cell, but for rounding."""
    cells = code_cells(committed)
    for name, cell in code_cells(today).items():
        before, after = (list(map(shape, each.outputs)) for each in (cells[name], cell))
        assert before == after, f"{name} is stale, run tests/test_notebook.py as a script: {before} is now {after}"


def check_law(cell: NotebookNode) -> None:
    """Both sound forms commute with quarter turns to rounding, and less well with others; the broken one does not."""
    _, *rows = printed(cell).splitlines()
    errors = {row[:15].strip(): list(map(float, row[15:].split())) for row in rows}
    assert list(errors) == ["oi h, o x", "oi x h", "oi h, o x a"]
    broken, *_ = errors.pop("oi h, o x a")
    assert broken > 1e-2
    for form, (quarter, *others) in errors.items():
        assert quarter < 1e-5, form
        assert min(others) > 1e-4, form


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    return nbformat.read(TUTORIAL, 4)


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """Executed once for all tests."""
    before = sorted(TUTORIAL.parent.iterdir())
    notebook = executed(TUTORIAL, tmp_path_factory.mktemp("notebook") / "tutorial.ipynb")
    assert sorted(TUTORIAL.parent.iterdir()) == before, "the notebook leaves files behind"
    return notebook


def test_it_runs(today: NotebookNode) -> None:
    check_sound(today)


def test_it_shows_what_it_promises(today: NotebookNode) -> None:
    images = pictures(today)
    assert len(images) >= FIGURES
    assert all(image.startswith(PNG) and len(image) > 5000 for image in images)
    cells = code_cells(today)
    check_law(cells["law"])
    assert "sound: no flaw\nbroken: `" in printed(cells["measured"])
    for name in ("baked", "stretched", "quarters_checked"):
        numbers = re.findall(r"\d\.\de[-+]\d+", printed(cells[name]))
        assert numbers, name
        assert all(float(number) < 1e-5 for number in numbers), name
    accuracies = {
        row.split()[0]: list(map(float, re.findall(r"0\.\d+|1\.0+", row)))
        for row in printed(cells["robust"]).splitlines()
    }
    assert accuracies["p4"][0] > accuracies["CNN"][0]


def test_what_is_committed_is_what_it_says_today(committed: NotebookNode, today: NotebookNode) -> None:
    check_sound(committed)
    check_fresh(committed, today)


def test_what_is_committed_is_small_and_has_no_times(committed: NotebookNode) -> None:
    assert TUTORIAL.stat().st_size < LARGEST
    assert [cell.execution_count for cell in code_cells(committed).values()] == [
        n + 1 for n in range(len(code_cells(committed)))
    ]
    assert not any(cell.metadata for cell in committed.cells)
    assert committed.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize(
    ("code", "complaint"),
    [("1 / 0", "bad: ZeroDivisionError"), ("import warnings\nwarnings.warn('look')", "bad: .*look")],
    ids=["raises", "warns"],
)
def test_a_bad_cell_is_seen(code: str, complaint: str, tmp_path: Path) -> None:
    source = tmp_path / "bad.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("2 + 2", id="good"), new_code_cell(code, id="bad")]), source)
    notebook = executed(source, tmp_path / "out.ipynb")
    with pytest.raises(AssertionError, match=complaint):
        check_sound(notebook)


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [new_output("stream", name="stdout", text="3 elements, error 1.5e-07\n")],
        [new_output("display_data", data={"image/png": ""})],
    ],
    ids=["lost", "other text", "other kind"],
)
def test_stale_outputs_are_seen(outputs: list[NotebookNode]) -> None:
    today, same, stale = (new_notebook(cells=[new_code_cell("", id="cell")]) for _ in range(3))
    today.cells[0].outputs = [new_output("stream", name="stdout", text="8 elements, error 1.2e-07\n")]
    same.cells[0].outputs = [new_output("stream", name="stdout", text="8 elements,  error 3.4e-08\n")]
    check_fresh(same, today)
    stale.cells[0].outputs = outputs
    with pytest.raises(AssertionError, match="stale"):
        check_fresh(stale, today)


@pytest.mark.parametrize(
    "row", ["oi x h            8.2e-03   6.5e-03   6.6e-03", "oi x h            8.2e-07   8.2e-07   8.2e-07"]
)
def test_a_broken_law_is_seen(row: str) -> None:
    head, rest = "formula               90°       45°       20°", "oi h, o x a       2.7e-01   1.5e-01   6.8e-02"
    first = "oi h, o x         1.4e-07   7.1e-03   1.0e-02"
    cell = new_code_cell("", outputs=[new_output("stream", name="stdout", text="\n".join([head, first, row, rest]))])
    with pytest.raises(AssertionError):
        check_law(cell)


def main() -> None:
    """Keep the outputs of today, and nothing that differs between two machines without need."""
    notebook = executed(TUTORIAL, TUTORIAL)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, TUTORIAL)


if __name__ == "__main__":
    main()
