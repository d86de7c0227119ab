"""The command `train`: train a recipe, each of whose fields is an option."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from twoview.bench.config import recipe as recipes
from twoview.bench.config.experiment import place_of, run_name, views_of
from twoview.bench.evidence import trained
from twoview.bench.training import loggers
from twoview.bench.training import train as training
from twoview.bench.training.mllog import mllog as mllog_lines
from twoview.bench.training.mllog import torchtitan
from twoview.bench.training.step_profile import StepProfiler
from twoview.commands.output import lines, show
from twoview.commands.settings import recipe_in, with_settings

FLAGS = {"--resume", "--loss-hash", "--mllog", "--profile", "--json", "--help", "-h"}  # options of `run` without value


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with an option for each field of the recipe in `words`, or with its own options if there is none."""
    named = recipe_in(words, FLAGS)
    start = recipes.load(named) if named else None

    def run(
        recipe: Positional[str],
        out: Path = Path("out/train"),
        betons: Path | None = None,
        data_root: Path | None = None,
        resume: bool = False,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        loss_hash: bool = False,
        mllog: bool = False,
        profile: bool = False,
        log: loggers.Name | None = None,
        json: bool = False,
        *,
        settings: Annotated[Any, arg(name="")] = start,
    ) -> None:
        """Train a recipe, and save a checkpoint after every epoch. RECIPE --help lists its fields, each an option.

        To train on several GPUs, use torchrun: `torchrun --nproc-per-node 8 -m twoview train RECIPE`.

        Args:
            recipe: a name from `twoview list recipes`, or a TOML file.
            out: folder of the checkpoints.
            betons: folder of the beton files; OUT/betons by default.
            data_root: folder of your datasets; TWOVIEW_DATA by default.
            resume: continue from the checkpoint in OUT.
            device: device to train on; auto uses a GPU if there is one.
            loss_hash: also print a hash of all losses, the same for runs whose losses are bit-identical (see
                --deterministic).
            mllog: print MLPerf's `:::MLLOG` lines instead of the result.
            profile: trace ten steps and show where their time goes; trace and summary are written to OUT/profile.
                Profiling slows down that epoch.
            log: logger that also receives losses, epoch times and times spent waiting for data, after each checkpoint;
                `probe --log` adds the accuracies.
            json: print the result as JSON.
        """
        checked = recipes.parse(settings.model_dump(mode="json", warnings=False), recipe)
        started = time.time()
        profiler = StepProfiler(out / "profile" / run_name(checked)) if profile else None
        path = training.train(checked, place_of(out, betons, data_root), resume, device, profiler, log)
        if os.environ.get("RANK", "0") != "0":
            return  # only rank 0 prints the result
        measured, ceilings = trained.measured(path)
        if mllog:
            views = len(views_of(checked))
            print(*mllog_lines(checked.model_dump(mode="json"), measured, views, started), sep="\n")
            return
        result = {
            "checkpoint": str(path),
            "loss": measured.losses[-1],
            "views_per_s": measured.views_per_s,
            "seconds_per_epoch": measured.seconds_per_epoch,
            "data_wait_share": measured.data_wait_share,
            "peak_host_mib": measured.peak_host_mib,
            "precision": measured.precision,
        }
        if ceilings:
            result |= {
                "loader_views_per_s": ceilings.loader,
                "model_views_per_s": ceilings.model,
                "efficiency": ceilings.efficiency(measured.views_per_s),
                "bottleneck": ceilings.bottleneck,
            }
        result |= torchtitan(measured.data_wait_share, measured.mfu, measured.peak_device_reserved_mib)
        if measured.online_share is not None:
            result["online_share"] = measured.online_share
        if loss_hash:
            result["loss_hash"] = measured.loss_hash
        text = lines(result)
        if profiler and profiler.summary:
            result["profile"] = profiler.summary.as_result()
            text += f"\n\n{profiler.summary.text}"
        show(result, json, text)

    return with_settings(run, start)
