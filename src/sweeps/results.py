"""What a sweep came to: a ranking by validation, every trial as CSV, pictures, and TensorBoard's HPARAMS."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from src.config.targets import ConfigError
from src.data.io.files import replacing
from src.runs.compare import Group, compare
from src.runs.folder import read_json
from src.runs.record import Run, read
from src.runs.tables import console, csv_text, markdown_table, rich_table, state_counts
from src.sweeps.figures import axis_figure
from src.sweeps.live_table import STYLES
from src.sweeps.store import STATES, TrialRecord, TrialStore
from src.sweeps.sweep import Sweep


@dataclass(frozen=True)
class _Outcome:
    """One trial, with all that its files say."""

    record: TrialRecord
    run: Run
    metrics: dict[str, float]

    @property
    def values(self) -> dict[str, str]:
        """What was swept, by key, as it is written in an override."""
        return dict(override.partition("=")[::2] for override in self.record.point)

    @property
    def remedy(self) -> str:
        """Why it is not complete, and what may help."""
        why = self.record.why
        if self.record.state == "out of memory":
            return f"{why} (train.accumulate, or a smaller train.batch_size, needs less)"
        return why


def present(sweep: Sweep, store: TrialStore) -> None:
    """Print the end of a sweep, and write its files; those that were there are made again."""
    outcomes = [_outcome(record) for record in store.records.values()]
    ranking, out = _ranking(sweep, outcomes), console()
    scores = (sweep.metric, "std", sweep.test_metric, "std")
    head, numbers = ("rank", "differs in", "n", *scores, "parameters", "seeds"), ("rank", "n", *scores, "parameters")
    out.print(_trial_table(outcomes, sweep))
    if ranking:
        title = f"Ranking by {sweep.metric}, mean and deviation over seeds"
        out.print(rich_table(head, ranking, numbers, title))
    texts = {
        "trials.csv": csv_text(_trial_rows(outcomes, sweep)),
        "ranking.csv": csv_text([head, *ranking]),
        "ranking.md": _ranking_markdown(markdown_table(head, ranking, numbers), outcomes, sweep),
    }
    files = {name: text.encode() for name, text in texts.items()} | _pictures(outcomes, sweep)
    for name, content in files.items():
        with replacing(sweep.folder / name) as file:
            file.write(content)
    _write_hparams(outcomes, sweep)
    out.print(f"{state_counts((each.record.state for each in outcomes), STATES)}.", soft_wrap=True)
    out.print(f"written to {sweep.folder}: {', '.join((*files, 'tensorboard/'))}", soft_wrap=True)


def _outcome(record: TrialRecord) -> _Outcome:
    """What the files of a trial say."""
    run = read(Path(record.folder))
    return _Outcome(record, run, read_json(run.files.metrics))


def _ranking(sweep: Sweep, outcomes: Sequence[_Outcome]) -> list[list[str]]:
    """Configurations, the best first, as cells of a table: chosen by validation, tested once."""
    runs = [each.run for each in outcomes if each.record.state == "complete"]
    try:
        groups = compare(runs, sweep.metric, sweep.mode)
    except ConfigError:  # there is nothing to compare yet
        groups = []
    rows = []
    for rank, group in enumerate(groups, 1):
        size = f"{group.runs[0].metrics['parameters']:,.0f}" if "parameters" in group.runs[0].metrics else ""
        scores = [*_mean_and_deviation(group, sweep.metric), *_mean_and_deviation(group, sweep.test_metric)]
        seeds = ", ".join(map(str, group.seeds))
        rows.append([str(rank), group.label or "-", str(len(group.runs)), *scores, size, seeds])
    return rows


def _mean_and_deviation(group: Group, metric: str) -> list[str]:
    """Over seeds; nothing of a metric that a run does not have."""
    if not all(metric in run.metrics for run in group.runs):
        return ["", ""]
    own = replace(group, metric=metric)
    return [f"{own.mean:.4f}", "-" if own.std is None else f"{own.std:.4f}"]


def _trial_table(outcomes: Sequence[_Outcome], sweep: Sweep) -> Table:
    """A trial on each line; why it failed and where its log is, if it did."""
    rows, styles = [], []
    for each in outcomes:
        record, bad = each.record, not each.record.finished
        value = "" if record.value is None else f"{record.value:.4f}"
        test = f"{each.metrics[sweep.test_metric]:.4f}" if sweep.test_metric in each.metrics else ""
        why = " ".join(filter(None, [each.remedy, record.log if bad and record.starts else ""]))
        epochs = f"{record.epoch}/{record.epochs}"
        rows.append([record.label, record.state, record.location, epochs, value, test, why])
        styles.append(STYLES.get(record.state) if bad else None)
    numbers = ("epoch", sweep.metric, sweep.test_metric)
    head = ("trial", "state", "device", *numbers, "why, and the log")
    return rich_table(head, rows, numbers, f"Trials of {sweep.folder.name}", styles)


def _trial_rows(outcomes: Sequence[_Outcome], sweep: Sweep) -> list[list[Any]]:
    """Every trial, with all digits; the head first."""
    metrics = sorted({name for each in outcomes for name in each.metrics})
    facts = ("state", "epoch", "epochs", "starts", "device", "host", "why", "folder", "log")
    rows = [["trial", *sweep.keys, *metrics, "seconds", *facts]]
    for each in outcomes:
        swept = [each.values.get(key, "") for key in sweep.keys]
        numbers = [*map(each.metrics.get, metrics), each.run.seconds]
        rows.append([each.record.name, *swept, *numbers, *(getattr(each.record, fact) for fact in facts)])
    return rows


def _ranking_markdown(ranking: str, outcomes: Sequence[_Outcome], sweep: Sweep) -> str:
    """The ranking, to be put into a text, and what is not in it."""
    rest = [each for each in outcomes if each.record.state != "complete"]
    notes = [f"- {each.record.label}: {each.record.state}, {each.remedy or 'not begun'}\n" for each in rest]
    head = f"`{' '.join(sweep.fixed)}`, swept over {', '.join(f'`{key}`' for key in sweep.keys)}\n\n"
    return "".join([head, ranking, *(["\nNot in the ranking:\n\n", *notes] if notes else [])])


def _pictures(outcomes: Sequence[_Outcome], sweep: Sweep) -> dict[str, bytes]:
    """Validation and test of every complete trial against every axis, as PNG by name."""
    complete = [each for each in outcomes if each.record.state == "complete" and each.record.value is not None]
    if not complete:
        return {}
    scores = {
        sweep.metric: [each.record.value for each in complete],
        sweep.test_metric: [each.metrics.get(sweep.test_metric) for each in complete],
    }
    title = f"{sweep.base.name}: {len(complete)} complete trials; lines are means"
    result = {}
    for key in sweep.keys:
        values = [each.values.get(key, "") for each in complete]
        labels = {"xlabel": key, "ylabel": sweep.quantity, "title": title}
        result[f"{key.lstrip('+')}.png"] = axis_figure(values, scores, labels)
    return result


def _write_hparams(outcomes: Sequence[_Outcome], sweep: Sweep) -> None:
    """TensorBoard's HPARAMS: what was swept and what it came to, a session for each trial."""
    folder = sweep.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)  # made of the other files alone
    for each in outcomes:
        if each.record.value is None:
            continue
        params = {key: _scalar(each.values.get(key, "")) for key in sweep.keys} | {"state": each.record.state}
        with SummaryWriter(str(folder / each.record.name)) as writer:
            metrics = {f"best/{sweep.metric}": each.record.value} | each.metrics
            writer.add_hparams(params, metrics, run_name=".")


def _scalar(text: str) -> float | str:
    """A number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text
