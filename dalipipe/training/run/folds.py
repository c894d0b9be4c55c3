"""K-fold cross-validation: the same run K times, each validating on another part of the images."""

import json
import statistics
from collections.abc import Callable
from typing import Any, Final

from dalipipe.errors import ConfigError
from dalipipe.training.config import TrainConfig
from dalipipe.training.resume.record import RunRecord
from dalipipe.training.resume.resumption import find_finished
from dalipipe.training.run.lock import held_by_first

SCORES: Final = ("val_loss", "val_acc", "val_top5", "val_macro_f1", "val_calibration_error")

TrainOnce = Callable[[TrainConfig, Any, int], dict[str, Any]]


def train_folds(cfg: TrainConfig, host: Any, train_once: TrainOnce) -> dict[str, Any]:
    """Train once for each fold, into OUTPUT/fold-1 and so on, and return what OUTPUT/summary.json holds.

    With `cfg.resume` folds that are finished are not done again, and one that was broken off goes on.

    Args:
        cfg: Every option; `folds` says how many.
        host: Where the runs take place, and who watches: `loop.Host`.
        train_once: Trains with one fold for validation, counted from 0.

    Returns:
        "folds": the summary of each run; "mean" and "std" (of the sample) of the best epoch's scores over them.
    """
    assert cfg.folds is not None
    if cfg.data is None:
        raise ConfigError("--folds: needs DATA, got none: the demonstration is divided already. Give a folder.")
    from_first, observer = host.processes.from_first, host.observer
    done: dict[str, Any] | None = from_first(lambda: find_finished(cfg, observer))
    if done is not None:
        return done
    with held_by_first(cfg.output, host.processes):
        return _train_folds(cfg, host, train_once)


def _train_folds(cfg: TrainConfig, host: Any, train_once: TrainOnce) -> dict[str, Any]:
    assert cfg.folds is not None
    from_first, observer = host.processes.from_first, host.observer
    record: RunRecord = from_first(lambda: RunRecord(cfg.output))  # its own files are those of no single run
    from_first(lambda: record.begin(cfg.to_toml()))
    summaries = []
    for fold in range(cfg.folds):
        observer.fold(fold + 1, cfg.folds)
        one = cfg.model_copy(update={"output": cfg.output / f"fold-{fold + 1}"})
        summaries.append(train_once(one, host, fold))
    values = {name: [summary["best"][name] for summary in summaries] for name in SCORES}
    summary = {
        "mean": {name: statistics.fmean(each) for name, each in values.items()},
        "std": {name: statistics.stdev(each) for name, each in values.items()},
        "folds": summaries,
        "config": cfg.plain(absolute=True),
        "classes": summaries[0]["classes"],
        "duration_s": round(sum(summary["duration_s"] for summary in summaries), 3),
    }
    from_first(lambda: record.finish(json.loads(json.dumps(summary))))
    return summary
