"""The command `probe`: an encoder's accuracy under frozen-feature probes and fine-tuning."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from twoview.bench import evidence
from twoview.bench.config import recipe as recipes
from twoview.bench.config.experiment import Place, place_of
from twoview.bench.data import own
from twoview.bench.evaluation import encoders, judging, probing, reconstructions
from twoview.bench.evaluation import transfer as transferring
from twoview.bench.training import loggers
from twoview.bench.training import train as training
from twoview.commands.numbers import a_seed, at_least, at_most
from twoview.commands.output import show
from twoview.loaders.datasets import Dataset
from twoview.loaders.limits import BATCH, EPOCHS, PIXELS, REPEATS
from twoview.methods import checkpoint as checkpoints


def run(
    checkpoint: Positional[Path | None] = None,
    encoder: str | None = None,
    arch: str | None = None,
    layout: str | None = None,
    dataset: tuple[str, ...] = (),
    data: str | None = None,
    test_data: str | None = None,
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
    """Evaluate an encoder by kNN and a linear probe with its recipe's settings, or by other probes and datasets.

    With other --probes, or with --dataset, --transfer or --encoder, each result is written as its own record, and a
    second run continues where the first stopped.

    Args:
        checkpoint: a file that `twoview train` wrote.
        encoder: a published encoder instead of a checkpoint: torchvision:NAME, timm:NAME or checkpoint:FILE.
        arch: architecture of the weights in checkpoint:FILE, such as torchvision:resnet50.
        layout: code base whose parameter names checkpoint:FILE uses; detected by default.
        dataset: names from `twoview list datasets`; the recipe's own by default.
        data: your own labeled images, in any form that `train --data` takes.
        test_data: labeled images to test on; by default those that the data have, or else a fifth of each class.
        transfer: evaluate on the seven datasets of Assran et al. 2023; for each that is missing, say how to get it.
        probes: which of knn, knn-10, linear, sgd-grid, low-shot, end-to-end, fine-tune.
        size: side of an image in pixels, instead of the encoder's.
        train_images: number of training images, the same for each class, instead of the recipe's; 0 means all.
        test_images: the same for the test split.
        out: folder of .beton files and checkpoints; by default the checkpoint's folder, or out/probe.
        betons: folder of the .beton files; OUT/betons by default.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        evidence_dir: folder for the records. By default OUT/evidence, except that the kNN and linear probes of a
            checkpoint on its own dataset leave no record.
        baselines: also evaluate the untrained encoder and raw pixels.
        log: add the accuracies to the logger that `train --log` has written to.
        json: print the result as JSON.
    """
    if (checkpoint is None) == (encoder is None):
        raise ValueError(f"probe needs either a checkpoint or --encoder, got {'both' if checkpoint else 'neither'}")
    at_least(1, size=size)
    at_least(0, train_images=train_images, test_images=test_images, epochs=options.epochs, batch=options.batch)
    at_least(1, splits=options.splits)
    at_most(EPOCHS, epochs=options.epochs)
    at_most(BATCH, batch=options.batch)
    at_most(REPEATS, splits=options.splits)
    PIXELS.check((size or 1) ** 2, "a square of --size")
    a_seed(63, seed=options.seed)
    names = [*(transferring.SEVEN if transfer else ()), *dataset]
    if data and data.startswith("hf:"):
        names, data = [*names, data], None
    subjects: list[Dataset] = [recipes.checked_dataset(name) for name in names]
    folder = out or (checkpoint.parent.parent if checkpoint else Path("out/probe"))
    place = place_of(folder, betons, data_root)
    probes = tuple(name for words in probes for name in words.split(","))
    asked = {"train_images": train_images, "test_images": test_images}
    changed = {key: value for key, value in asked.items() if value is not None}
    plain = probes == judging.PROBES and options == probing.Options()
    if checkpoint and plain and not (dataset or data or transfer or size or changed):
        return _judge(checkpoint, place, evidence_dir, baselines, log, json)
    if baselines or log:
        word = "--baselines" if baselines else "--log"
        raise ValueError(f"{word} works only for kNN and linear probe of a checkpoint on its own dataset")
    if encoder and not (dataset or data or transfer):
        raise ValueError("--encoder needs a --dataset, --data or --transfer")
    recipe = None
    if checkpoint:
        subject, recipe = judging.trained_encoder(checkpoint)
    else:
        subject = encoders.load(str(encoder), arch, layout)
    subject = encoders.sized(subject, size) if size else subject
    if data:
        subjects.append(own.dataset_at(data, test_data, place.betons, subject.size))
    if recipe and not subjects:
        subjects = [recipes.dataset_of(recipe)]
    same = recipe is not None and {one.name for one in subjects} == {recipe.dataset}
    table = recipe.probe if recipe and same else recipes.Probe()
    rows = transferring.transfer(
        subject,
        subjects,
        probes,
        table.model_copy(update=changed),
        options,
        place,
        evidence_dir or folder / "evidence",
        recipe.published() if recipe else None,
    )
    show(transferring.as_result(subject, rows), json, transferring.text(subject, rows))


def _judge(
    checkpoint: Path, place: Place, evidence_dir: Path | None, baselines: bool, log: loggers.Name | None, json: bool
) -> None:
    """Evaluate a checkpoint with its recipe's own probes, dataset and settings."""
    training.finish(checkpoint, place)
    records = [judging.judge(checkpoint, place)]
    recipe = recipes.parse(checkpoints.load(checkpoint)["recipe"], str(checkpoint))  # a record has no paths
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
    show(result, json, "\n".join(transferring.table("encoder", found)))
