"""The reference trainer, `fsrs-optimizer`, on one learner's reviews.

Runs in an environment of its own, that of the dependency group `bench-fsrs`, and imports nothing of
ours. Standard input: a JSON list of `[card, milliseconds since 1970, grade]`, by card and time, for
each learner a line. Standard output: for each a line `{"weights", "train_seconds",
"whole_seconds"}`.
"""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


def optimize(reviews: list[list[int]]) -> dict[str, object]:
    """Prepare the data, initialize and train with the trainer's own defaults."""
    import fsrs_optimizer

    with Path("revlog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["card_id", "review_time", "review_rating"])
        writer.writerows(reviews)
    begun = time.perf_counter()
    optimizer = fsrs_optimizer.Optimizer()
    optimizer.create_time_series("UTC", "2006-10-05", 0, analysis=False)
    prepared = time.perf_counter()
    optimizer.define_model()
    optimizer.initialize_parameters(verbose=False)
    optimizer.train(verbose=False)
    ended = time.perf_counter()
    return {
        "weights": optimizer.w,
        "train_seconds": ended - prepared,
        "whole_seconds": ended - begun,
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    answers = sys.stdout
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        for line in sys.stdin:
            with redirect_stdout(sys.stderr), redirect_stderr(Path(os.devnull).open("w")):
                result = optimize(json.loads(line))
            print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
