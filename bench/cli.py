"""The command line, and the one place that sees every floor: it calls the rooms and turns errors into one sentence.

Exit codes: 0 done, 1 a regression found by `compare`, 2 bad input or a failure named in one sentence, 130 interrupted,
143 terminated.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from shlex import split
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import Positional, arg
from tyro.constructors._struct_spec_pydantic import pydantic_rule

from bench import (
    betons,
    encoders,
    evidence,
    judging,
    loader_profile,
    loader_rates,
    loggers,
    loss_cost,
    probing,
    reconstructions,
    representations,
    training,
)
from bench import compare as comparing
from bench import data as inventory
from bench import recipe as recipes
from bench import suite as suites
from bench import transfer as transferring
from bench.environment import cpu_count
from bench.experiment import Place, run_name
from bench.mllog import mllog as mllog_lines
from bench.mllog import torchtitan
from bench.progress import console
from bench.step_profile import StepProfiler
from loaders import beton, datasets, presets
from loaders.datasets import DATASETS
from loaders.shrink import shrunk
from methods.precision import Precision
from methods.registry import METHODS

CONFIG = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)
DESCRIPTION = "Benchmark contrastive and self-supervised learning, bound by hardware. Every command takes --debug."


UNCHECKED = tyro.constructors.ConstructorRegistry()


@UNCHECKED.struct_rule
def _unchecked(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """Leaves the checking of a recipe to `bench.recipe`, whose errors are a sentence where tyro's are a traceback."""
    spec = pydantic_rule(info)
    return replace(spec, instantiate=info.type.model_construct) if spec else None


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Runs one command line; returns its exit code. With --debug an error keeps its traceback."""
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that blocks end and nothing half-written stays
    try:
        code: int | None = tyro.extras.subcommand_cli_from_dict(
            _commands(words),
            prog="twoview",
            description=DESCRIPTION,
            args=words,
            config=CONFIG,
            registry=UNCHECKED,
        )
    except KeyboardInterrupt:
        print("twoview: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if debug:
            raise
        print(f"twoview: {_sentence(error)}", file=sys.stderr)
        return 2
    return code or 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _commands(words: Sequence[str]) -> dict[str, Callable[..., int | None]]:
    return {
        "list": list_,
        "data": data,
        "convert": convert,
        "inspect": inspect,
        "verify": verify,
        "train": _train_command(words),
        "plan": plan,
        "submit": submit,
        "search": search,
        "probe": probe,
        "features": features,
        "loader": loader,
        "losses": losses,
        "probes": probes,
        "suite": suite,
        "report": report,
        "budget": budget,
        "evidence": records,
        "compare": compare,
        "peers": peers,
        "conformance": conformance,
    }


def list_(what: Positional[Literal["recipes", "methods", "datasets", "views", "suites"]], json: bool = False) -> None:
    """List what there is: recipes, methods, datasets, views or suites, each with a line about it.

    Args:
        what: which list.
        json: print the list as JSON.
    """
    lists: dict[str, Callable[[], dict[str, str]]] = {
        "recipes": lambda: {path.stem: recipes.load(path.stem).source for path in recipes.all_files()},
        "methods": lambda: {name: _first_line(entry.build) for name, entry in METHODS.items()},
        "datasets": lambda: {name: f"{d.count:,} classes, licence: {d.licence}" for name, d in DATASETS.items()},
        "views": lambda: {name: _first_line(views) for name, views in presets.PRESETS.items()},
        "suites": lambda: {
            "gpu": "what one GPU does in so many --minutes, beside its targets",
            **{
                name: ", ".join([*(w.name for w in one.loaders), *one.recipes, *one.theory])
                for name, one in suites.SUITES.items()
            },
        },
    }
    rows = lists[what]()
    text = "\n".join(f"{name:32} {about}" for name, about in rows.items())
    _show([{"name": name, "about": about} for name, about in rows.items()], json, text)


def data(
    names: Positional[tuple[str, ...]] = (),
    get: bool = False,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Say what is there of a dataset, what is missing, and the command that gets it.

    Args:
        names: from `twoview list datasets`, or torchvision:NAME, or hf:NAME; without one, all that is listed.
        get: download what is missing, check and unpack it, whole or not at all.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the result as JSON.
    """
    root = datasets.data_root(data_root)
    entries = [datasets.dataset(name) for name in names or DATASETS]
    if get and not names:
        raise ValueError("--get needs the name of a dataset")
    if get:
        for entry in entries:
            inventory.get(entry, root)
    states = [inventory.state(entry, root) for entry in entries]
    _show(states, json, "\n".join(inventory.text(found) for found in states))


def convert(
    source: Positional[str],
    dest: Positional[Path],
    split: Literal["train", "test", "unlabeled"] = "train",
    data_root: Path | None = None,
    max_resolution: int | None = None,
    quality: int = 90,
    skip_damaged: bool = False,
    threads: int = 0,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a dataset, or a folder of class folders of images, to a .beton file. JPEG files keep their bytes.

    Args:
        source: a name from `twoview list datasets`, or a folder.
        dest: the file to write; it appears whole or not at all.
        split: of a named dataset.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        max_resolution: longest side to store, in pixels; larger images are resized.
        quality: of the JPEGs that are resized, 1 to 95.
        skip_damaged: leave out images that cannot be read, and say which, instead of ending there.
        threads: that read and encode; 0 means every core.
        force: overwrite dest.
        json: print the result as JSON.
    """
    if dest.exists() and not force:
        raise FileExistsError(f"{dest} exists: overwrite it with --force")
    if Path(source).is_dir():
        samples = datasets.image_folder(Path(source))
    else:
        samples = datasets.dataset(source).find(datasets.data_root(data_root), split)
    if max_resolution is not None:
        samples = shrunk(samples, max_resolution, quality)
    skipped: list[str] | None = [] if skip_damaged else None
    betons.convert(samples, dest, dest.name, threads or cpu_count(), skipped)
    written, size = len(samples) - len(skipped or []), dest.stat().st_size
    result = {"path": str(dest), "samples": written, "bytes": size, "source": samples.source, "skipped": skipped or []}
    lines = [f"{dest}: {written:,} samples, {size:,} bytes, from {samples.source}"]
    _show(result, json, "\n".join(lines + [f"left out: {sentence}" for sentence in skipped or []]))


def inspect(file: Positional[Path], json: bool = False) -> None:
    """Show what is in a .beton file: fields, counts, sizes, histograms of resolutions and classes.

    Args:
        file: a .beton file, ours or FFCV's.
        json: print it as JSON.
    """
    result = betons.describe(beton.open_beton(file))
    plain = {key: value for key, value in result.items() if not isinstance(value, dict)}
    nested = [
        f"{key:20}" + ", ".join(f"{name}: {number}" for name, number in value.items())
        for key, value in result.items()
        if isinstance(value, dict)
    ]
    _show(result, json, "\n".join([_lines(plain), *nested]))


def verify(file: Positional[Path], threads: int = 0, json: bool = False) -> None:
    """Check a .beton file: every sample decodes, every checksum holds. Exit code 2 if not.

    Args:
        file: a .beton file, ours or FFCV's (which has no checksums).
        threads: that decode; 0 means every core.
        json: print the result as JSON.
    """
    result = betons.verify(beton.open_beton(file), threads or cpu_count())
    damaged = result["damaged"]
    _show(result, json, _lines({**result, "damaged": len(damaged)}))
    if damaged:
        first, reason = next(iter(damaged.items()))
        raise ValueError(f"{file}: {len(damaged)} of {result['samples']} samples are damaged; sample {first}: {reason}")


def _train_command(words: Sequence[str]) -> Callable[..., None]:
    """`train` with every field of the named recipe as an option; without a recipe's name, only its own options."""
    named = next((word for word in words[1:] if not word.startswith("-")), None) if words[0] == "train" else None
    start = recipes.load(named) if named else None

    def train(
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
        """Train a recipe, with a checkpoint after every epoch; RECIPE --help shows its fields, each an option.

        Several processes train together under torchrun: `torchrun --nproc-per-node 8 -m bench train RECIPE`.

        Args:
            recipe: a name from `twoview list recipes`, or a TOML file.
            out: folder of the checkpoints.
            betons: folder of the beton files; OUT/betons by default.
            data_root: folder of your datasets; TWOVIEW_DATA by default.
            resume: go on from the checkpoint that is in OUT.
            device: where to train; auto is a GPU where there is one.
            loss_hash: print a hash of the losses too, the same where every loss is, to the bit (--deterministic).
            mllog: print MLPerf's `:::MLLOG` lines instead of the result.
            profile: trace ten steps and show where their time goes; both stay in OUT/profile. It slows the epoch.
            log: send losses, epoch seconds and waits there too, behind each checkpoint; `probe --log` adds accuracies.
            json: print the result as JSON.
        """
        checked = recipes.parse(settings.model_dump(mode="json", warnings=False), recipe)
        started = time.time()
        profiler = StepProfiler(out / "profile" / run_name(checked)) if profile else None
        path = training.train(checked, _place(out, betons, data_root), resume, device, profiler, log)
        if os.environ.get("RANK", "0") != "0":
            return  # the first rank speaks for all
        measured, ceilings = training.measured(path)
        if mllog:
            views = len(presets.preset(checked.views, checked.size))
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
            "loader_views_per_s": ceilings.loader,
            "model_views_per_s": ceilings.model,
            "efficiency": ceilings.efficiency(measured.views_per_s),
            "bottleneck": ceilings.bottleneck,
            **torchtitan(measured.data_wait_share, measured.mfu, measured.peak_device_reserved_mib),
        }
        if measured.online_share is not None:
            result["online_share"] = measured.online_share
        if loss_hash:
            result["loss_hash"] = measured.loss_hash
        text = _lines(result)
        if profiler and profiler.summary:
            result["profile"] = profiler.summary.as_result()
            text += f"\n\n{profiler.summary.text}"
        _show(result, json, text)

    # The type of the settings is known only now: it depends on the method that the recipe names.
    kind: Any = type(start)
    hidden: Any = tyro.conf.Suppress
    train.__annotations__["settings"] = Annotated[kind, arg(name="")] if start else hidden[None]
    return train


def search(
    recipe: Positional[str],
    trials: int = 20,
    out: Path | None = None,
    betons: Path | None = None,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Search a recipe's hyper-parameters: random groups, judged by kNN on training images that are held out.

    Run again, it goes on to TRIALS. Processes and machines that name the same OUT share the search.

    Args:
        recipe: a name from `twoview list recipes`, or a TOML file, with a table [search.ranges].
        trials: groups to have tried in the end.
        out: folder of the study and its plot; out/search/RECIPE by default.
        betons: folder of the beton files; OUT/betons by default.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the result as JSON.
    """
    from bench import search as searching
    from reports.search import plot

    start = recipes.load(recipe)
    folder = out or Path("out/search") / start.name
    study = searching.open_study(start, folder)
    searching.run(start, study, trials, _place(folder, betons, data_root))
    result = searching.outcome(study)
    result["plot"] = str(plot(result, start.search, folder / "search.svg"))
    lines = [", ".join(f"{count} {state}" for state, count in result["trials"].items() if count)]
    if best := result["best"]:
        words = " ".join(f"--{key} {value}" for key, value in best["values"].items())
        lines.append(f"best: {best['top1']:.2f} % kNN on held-out training images with trial {best['number']}")
        lines.append(f"train it: twoview train {recipe} {words}")
    _show(result, json, "\n".join([*lines, result["plot"]]))


def plan(
    recipe: Positional[str],
    batch: int | None = None,
    size: int | None = None,
    precision: Precision | Literal["auto"] | None = None,
    memory: float | None = None,
    json: bool = False,
) -> None:
    """Predict the peak memory of a training on this machine, what holds how much, and the batch that would fit.

    Args:
        recipe: a name from `twoview list recipes`, or a TOML file.
        batch: images a step, instead of the recipe's.
        size: side of a view in pixels, instead of the recipe's.
        precision: of autocast, instead of the recipe's.
        memory: GiB there is: say which batch fits into it.
        json: print the result as JSON.
    """
    from bench.plan import plan as predict

    asked = {"batch": batch, "size": size, "precision": precision}
    changed = {key: value for key, value in asked.items() if value is not None}
    checked = recipes.parse(recipes.load(recipe).model_dump(mode="json") | changed, recipe)
    with console.status("counting"):
        predicted = predict(checked, memory)
    _show(predicted.as_result(), json, predicted.text)


def submit(
    recipe: Positional[str],
    nodes: int = 1,
    gpus: int = 8,
    cpus: int = 64,
    hours: float = 24,
    partition: str = "",
    sbatch: tuple[str, ...] = (),
    out: Path = Path("out/train"),
    train_args: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Submit a training to Slurm: torchrun on every node, a process a GPU; a job that must go is queued again.

    Args:
        recipe: a name from `twoview list recipes`, or a TOML file that all nodes see.
        nodes: how many.
        gpus: of each node; 0 means one process on its processor.
        cpus: of each node.
        hours: time limit; a job that runs into it goes on from its checkpoint.
        partition: of the cluster.
        sbatch: further options of sbatch, as account=NAME qos=NAME.
        out: folder of checkpoints, script and logs, which all nodes see.
        train_args: further words for `twoview train`, as --train-args="--seed 1 --optim.lr 0.3".
        dry_run: print the script instead.
        json: print the result as JSON.
    """
    from bench import submit as slurm

    recipes.load(recipe)
    for option in sbatch:
        if "=" not in option:
            raise ValueError(f"--sbatch takes NAME=VALUE, not {option!r}")
    job = slurm.Job(nodes, gpus, cpus, hours, partition, dict(option.split("=", 1) for option in sbatch))
    words = [recipe, "--out", str(out.absolute()), *split(train_args)]
    if dry_run:
        text = slurm.script(words, job, out / "slurm")
        return _show({"script": text}, json, text)
    number = slurm.submit(words, job, out / "slurm")
    _show({"job": number, "logs": str(out / "slurm")}, json, f"job {number}; its script and logs are in {out}/slurm")


def probe(
    checkpoint: Positional[Path | None] = None,
    encoder: str | None = None,
    arch: str | None = None,
    layout: str | None = None,
    dataset: tuple[str, ...] = (),
    transfer: bool = False,
    probes: tuple[str, ...] = judging.PROBES,
    size: int | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
    out: Path | None = None,
    betons: Path | None = None,
    data_root: Path | None = None,
    evidence_dir: Path | None = None,
    baselines: bool = False,
    log: loggers.Name | None = None,
    json: bool = False,
    *,
    options: Annotated[probing.Options, arg(name="")] = probing.Options(),  # noqa: B008  # frozen
) -> None:
    """Judge a frozen encoder: by weighted kNN and a linear probe as its recipe says, or by other probes and elsewhere.

    With other --probes, --dataset, --transfer or --encoder each result is a record of its own, and run again the
    command goes on where it stopped.

    Args:
        checkpoint: a file that `twoview train` wrote.
        encoder: instead of it torchvision:NAME, timm:NAME or checkpoint:FILE, an encoder that others published.
        arch: of the weights in checkpoint:FILE, as torchvision:resnet50.
        layout: whose names they have; found out by default.
        dataset: names from `twoview list datasets`; the recipe's own by default.
        transfer: the seven datasets of Assran et al. 2023; of one that is absent, say what gets it.
        probes: of knn, linear, sgd-grid, low-shot, end-to-end, fine-tune.
        size: side of an image in pixels, instead of the encoder's.
        train_images: as many, equally many a class, instead of the recipe's; 0 means all.
        test_images: the same of the test split.
        out: folder of betons and checkpoints; by default that of the checkpoint, or out/probe.
        betons: folder of the beton files; OUT/betons by default.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        evidence_dir: folder of the records; for a checkpoint's own kNN and linear none by default, else OUT/evidence.
        baselines: judge the same encoder untrained, and the raw pixels, too.
        log: add the accuracies to what `train --log` has sent there.
        json: print the result as JSON.
    """
    if (checkpoint is None) == (encoder is None):
        raise ValueError("probe takes a checkpoint or --encoder, one of them")
    folder = out or (checkpoint.parent.parent if checkpoint else Path("out/probe"))
    place = _place(folder, betons, data_root)
    probes = tuple(name for words in probes for name in words.split(","))
    asked = {"train_images": train_images, "test_images": test_images}
    changed = {key: value for key, value in asked.items() if value is not None}
    plain = probes == judging.PROBES and options == probing.Options()
    if checkpoint and plain and not (dataset or transfer or size or changed):
        return _judge(checkpoint, place, evidence_dir, baselines, log, json)
    if baselines or log:
        word = "--baselines" if baselines else "--log"
        raise ValueError(f"{word} goes with a checkpoint's own kNN and linear probe, on its own dataset")
    if encoder and not (dataset or transfer):
        raise ValueError("--encoder needs a --dataset, or --transfer")
    recipe = None
    if checkpoint:
        subject, recipe = judging.trained_encoder(checkpoint)
    else:
        subject = encoders.load(str(encoder), arch, layout)
    subject = encoders.sized(subject, size) if size else subject
    names = (*(transferring.SEVEN if transfer else ()), *dataset) or ((recipe.dataset,) if recipe else ())
    own = recipe is not None and set(names) == {recipe.dataset}
    table = recipe.probe if recipe and own else recipes.Probe()
    rows = transferring.transfer(
        subject,
        names,
        probes,
        table.model_copy(update=changed),
        options,
        place,
        evidence_dir or folder / "evidence",
        recipe.model_dump(mode="json") if recipe else None,
    )
    _show(transferring.as_result(subject, rows), json, transferring.text(subject, rows))


def _judge(
    checkpoint: Path, place: Place, evidence_dir: Path | None, baselines: bool, log: loggers.Name | None, json: bool
) -> None:
    records = [judging.judge(checkpoint, place)]
    recipe = recipes.parse(records[0].recipe, str(checkpoint))
    if log:
        with closing(loggers.open_logger(log, recipe, checkpoint.parent.parent, go_on=True)) as logger:
            logger.write(loggers.judged(records[0]))
    if baselines:
        records += [judging.judge_untrained(recipe, place), judging.judge_pixels(recipe, place)]
    if evidence_dir:
        reconstructions.write(checkpoint, place, evidence_dir)
        for record in records:
            evidence.write(record, evidence_dir)
    result: dict[str, Any] = {
        "name": records[0].name,
        **{record.subject: record.accuracy.model_dump() for record in records},
    }
    found = [(record.subject, label, one) for record in records for label, one in record.accuracy.probes.items()]
    _show(result, json, "\n".join(transferring.table("encoder", found)))


def features(
    checkpoints: Positional[tuple[Path, ...]],
    out: Path = Path("out/features"),
    betons: Path | None = None,
    data_root: Path | None = None,
    json: bool = False,
    *,
    options: Annotated[representations.Options, arg(name="")] = representations.Options(),  # noqa: B008  # frozen
) -> None:
    """Show what encoders have learned, side by side, on their test images: t-SNE, firing, filters, strongest images.

    Each picture is a number, too: how far classes lie apart, by silhouette and kNN; how often and how sparsely each
    layer fires.

    Args:
        checkpoints: files that `twoview train` wrote.
        out: folder of the pictures, and of a JSON file an encoder.
        betons: folder of the beton files; by default that of the first checkpoint's training.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the results as JSON.
    """
    from reports.representations import plot

    if not checkpoints:
        raise ValueError("features needs a checkpoint")
    place = _place(checkpoints[0].parent.parent, betons, data_root)
    measured = [representations.measure(path, place, options) for path in checkpoints]
    written = [*representations.write(measured, options, out), *plot(measured, options, out)]
    results = [representations.as_result(one, options) for one in measured]
    _show(results, json, "\n".join([representations.text(measured), *map(str, written)]))


def loader(
    file: Positional[Path],
    views: str = "simclr-imagenet",
    size: int | None = None,
    threads: int = 0,
    images: int = loader_rates.IMAGES,
    batch: int = loader_rates.BATCH,
    rounds: int = 5,
    peers: tuple[str, ...] = (),
    empty_cache: bool = False,
    profile: bool = False,
    json: bool = False,
) -> None:
    """Measure the loader on a .beton file: source images and views a second, medians over the rounds.

    `twoview suite loader` measures all that is required of it.

    Args:
        file: a .beton file.
        views: a name from `twoview list views`.
        size: side of a view in pixels; by default 224, or 32 where the images have at most 64.
        threads: of each contestant; 0 means every core.
        images: of one pass; a smaller file is gone through several times.
        batch: images a batch, or all of a pass if it has fewer.
        rounds: of each contestant, in turn; a round repeats passes until a second is over.
        peers: what to run beside ours: torchvision, lightly, kornia, spdl, ffcv, decode (libjpeg-turbo alone).
        empty_cache: measure a first batch that has to compile every kernel, too.
        profile: show where the time of one thread goes instead: decode, crop, each op, hand-over.
        json: print the result as JSON.
    """
    opened = beton.open_beton(file)
    side = size or (32 if opened.heights.max() <= 64 else 224)
    if profile:
        steps = loader_profile.profile(opened, presets.preset(views, side), min(images, len(opened)), batch, rounds)
        return _show([asdict(step) for step in steps], json, loader_profile.text(steps))
    job = loader_rates.job_for(file, views, side, threads or cpu_count(), len(opened), images, batch)
    result = loader_rates.as_result(loader_rates.measure(job, peers, rounds, file.stem, empty_cache))
    _show(result, json, loader_rates.text(result))


def losses(batches: tuple[int, ...] = loss_cost.BATCHES, dim: int = 128, rounds: int = 3, json: bool = False) -> None:
    """Measure every loss, forward and backward, beside lightly's: milliseconds and peak MiB, medians over the rounds.

    Args:
        batches: images of a batch, each of which has two embeddings.
        dim: width of an embedding.
        rounds: measurements of each loss on each side, in turn, each in a process of its own.
        json: print the result as JSON.
    """
    result = loss_cost.measure(batches, dim, rounds)
    _show(result, json, loss_cost.table(result))


def probes(
    train: int = 50_000,
    test: int = 10_000,
    dim: int = 512,
    classes: int = 100,
    k: tuple[int, ...] = (20, 200),
    threads: tuple[int, ...] = (),
    rounds: int = 5,
    evidence_dir: Path | None = None,
    json: bool = False,
) -> None:
    """Measure kNN beside faiss's exact index and the linear probe beside scikit-learn's, on the same features in turn.

    Args:
        train: features that the probe learns from, made from a seed.
        test: features that it is judged on.
        dim: width of a feature.
        classes: of the features.
        k: neighbours of kNN, each measured.
        threads: of each contestant, each number measured; one and every core by default.
        rounds: measurements of each contestant, in turn, each in a process of its own.
        evidence_dir: write a record of evidence of each measurement into this folder, too.
        json: print the result as JSON.
    """
    from bench import probe_cost

    works = probe_cost.works(train, test, dim, classes, k, threads or tuple({1, cpu_count()}))
    records = [probe_cost.measure(work, rounds) for work in works]
    if evidence_dir:
        for record in records:
            evidence.write(record, evidence_dir)
    _show([probe_cost.as_result(record) for record in records], json, probe_cost.table(records))


def suite(
    name: Positional[str],
    out: Path | None = None,
    seeds: int | None = None,
    minutes: float = 60,
    data_root: Path | None = None,
    json: bool = False,
) -> None:
    """Run a suite: measure, train, judge, and write evidence and leaderboard. Run again, it goes on where it stopped.

    Args:
        name: a name from `twoview list suites`.
        out: folder of everything the suite makes; out/NAME by default.
        seeds: how many times to train each recipe, with seeds 0, 1, ...; by default once, by imbalance several times.
        minutes: of the suite gpu, after which it ends; what does not fit is skipped by name.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the leaderboard, or what the suites gpu measured, imbalance compared or theory found, as JSON.
    """
    if name == "gpu":
        return _gpu_suite(out or Path("out/gpu"), minutes, data_root, json)
    work = suites.suite(name)
    if seeds is not None and seeds < 1:
        raise ValueError(f"--seeds must be at least 1, not {seeds}")
    folder = out or Path("out") / name
    suites.run(work, folder / "evidence", _place(folder, None, data_root), seeds or work.seeds)
    if json and name.startswith(("imbalance", "theory")):
        from reports.report import write_report

        written = write_report(folder / "evidence", folder)
        table = written.theory if name == "theory" else written.imbalance
        return print(table.to_json(orient="records", indent=1))
    report(folder / "evidence", folder, json)


def _gpu_suite(folder: Path, minutes: float, data_root: Path | None, json: bool) -> None:
    from bench.gpu import suite as gpu
    from reports.report import write_report

    failed = gpu.run(folder / "evidence", _place(folder, None, data_root), minutes)
    if json:
        print(write_report(folder / "evidence", folder).gpu.to_json(orient="records", indent=1))
    else:
        report(folder / "evidence", folder)
    if failed:
        raise ValueError(f"failed, or beyond their tolerance: {', '.join(failed)}; the other steps are finished")


def report(evidence_dir: Positional[Path], out: Path = Path("out/report"), json: bool = False) -> None:
    """Make the leaderboard, as CSV, Parquet, Markdown and index.html, of a folder of evidence records.

    Args:
        evidence_dir: folder of the records, one JSON file each.
        out: folder to write to.
        json: print the leaderboard as JSON.
    """
    from reports.report import write_report
    from reports.terminal import show

    with console.status("writing the report"):
        written = write_report(evidence_dir, out)
    if json:
        print(written.leaderboard.to_json(orient="records", indent=1))
    else:
        show(written, Console())


def peers(out: Path = Path("out/peers"), rounds: int = 3, data_root: Path | None = None, json: bool = False) -> None:
    """Do the same work in torchvision, lightly, kornia, SPDL and stock FFCV, in turn with ours: loaders, SimCLR's step.

    Each is a process of its own, on the same file and cores. One that is not installed, cannot do the work, or takes
    minutes is named as absent. `make bench-peers` installs them.

    Args:
        out: folder of records and betons.
        rounds: of each contestant, in turn.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the records as JSON.
    """
    from bench import beside_peers

    records = list(beside_peers.measure(_place(out, None, data_root), rounds))
    for record in records:
        evidence.write(record, out / "evidence")
    _show([record.model_dump(mode="json") for record in records], json, beside_peers.text(records))


def compare(
    old: Positional[str],
    new: Positional[str],
    paired: str | None = None,
    threshold: float = comparing.THRESHOLD,
    accuracy_threshold: float = comparing.ACCURACY_THRESHOLD,
    rounds: int = 400,
    evidence_dir: Path = Path("out"),
    data_root: Path | None = None,
    markdown: Path | None = None,
    json: bool = False,
) -> int:
    """Compare new evidence, or code, with old: ratios with bootstrap intervals. Exit code 1 if something regressed.

    A regression is called only where the whole interval, of 95 %, lies beyond the threshold. Evidence of another
    machine or of other settings is left out by name.

    Args:
        old: a record, a folder of records, or a commit; with --paired a checkout's folder, or a commit.
        new: the same of the new side.
        paired: measure both sides' code in turn, in this session: the training step of a recipe, or the name of one
            of the loader's works from `twoview list suites`.
        threshold: share of speed or memory that may be lost. 0.05 lets a loss of a tenth be found and is above what
            two sessions on one machine differ by.
        accuracy_threshold: share of an accuracy that may be lost; 0.02 is about what seeds differ by.
        rounds: of --paired at most; it ends as soon as the interval tells the threshold from twice that.
        evidence_dir: folder whose records are searched for those of a commit.
        data_root: folder of your datasets, for --paired; TWOVIEW_DATA by default.
        markdown: write the comparison into this file, for a pull request.
        json: print the comparison as JSON.
    """
    if not (threshold > 0 and accuracy_threshold > 0):
        raise ValueError("a threshold is a share above 0, as 0.05")
    if paired:
        from bench.paired import compare_code

        found = compare_code(old, new, paired, _place(Path("out/compare"), None, data_root), threshold, rounds)
    else:
        found = comparing.compare(old, new, evidence_dir, threshold, accuracy_threshold)
    if markdown:
        markdown.write_text(found.markdown())
    if json:
        print(dumps(found.as_result(), indent=1))
    else:
        found.show(Console())
    return 1 if found.regressions else 0


def budget(
    evidence_dir: Positional[Path] = Path("out"),
    price: float | None = None,
    all: bool = False,
    json: bool = False,
) -> None:
    """Show what the papers' budgets are, beside what was measured: the whole projected from measured steps.

    A projection says from how many steady steps it comes; from fewer than 30 there is none.

    Args:
        evidence_dir: folder of the records, one JSON file each; without it nothing has been measured.
        price: of a GPU-hour, in your currency: adds the cost.
        all: show the budgets too that no recipe of ours repeats.
        json: print all of them as JSON.
    """
    from reports import papers
    from reports.budget import budget_table
    from reports.terminal import budget_tables

    if price is not None and not price > 0:
        raise ValueError(f"--price must be above 0, not {price:g}")
    found, complaints = evidence.read_folder(evidence_dir) if evidence_dir.is_dir() else ([], [])
    table, more = budget_table(papers.budgets(papers.load()), found, price)
    for complaint in [*complaints, *more]:
        console.print(complaint, markup=False)
    if json:
        print(table.to_json(orient="records", indent=1))
        return
    for shown in budget_tables(table if all else table[table.recipe.notna()], Console()):
        Console().print(shown)


def records(evidence_dir: Positional[Path] = Path("out"), schema: bool = False, json: bool = False) -> None:
    """List the records of evidence in a folder, and why other files there are none. Keeps the list there as index.csv.

    Args:
        evidence_dir: folder of the records, one JSON file each.
        schema: print the JSON schema of a record instead.
        json: print the list as JSON.
    """
    if schema:
        return print(evidence.schema(), end="")
    listed = evidence.index(evidence_dir).to_dict("records")
    lines = [f"{one['file']}: {one['complaint'] or _entry(one)}" for one in listed]
    _show(listed, json, "\n".join(lines))


def _entry(one: Mapping[Any, str]) -> str:
    return f"{one['kind']} of {one['recipe'] or one['name']}, {one['created']}, {one['machine']}"


def conformance(json: bool = False) -> None:
    """Hold every op of the loader against torchvision and PIL: pixels, parameters, whole views. Exit code 2 if not.

    Args:
        json: print the card as JSON.
    """
    from bench.conformance import card, show

    with console.status("measuring"):
        rows = list(card())
    if json:
        print(dumps([asdict(row) for row in rows], indent=1))
    else:
        show(rows, Console())
    failing = [str(row) for row in rows if not row.passed]
    if failing:
        raise ValueError(f"{len(failing)} of {len(rows)} rows of the card fail: {', '.join(failing)}")


def _place(out: Path, betons: Path | None, data_root: Path | None) -> Place:
    return Place(betons or out / "betons", out / "checkpoints", datasets.data_root(data_root))


def _show(result: Any, as_json: bool, text: str) -> None:
    print(dumps(result, indent=1) if as_json else text)


def _lines(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{key:20}{value:.4g}" if isinstance(value, float) else f"{key:20}{value}" for key, value in result.items()
    )


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]
