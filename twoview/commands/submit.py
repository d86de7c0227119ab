"""The command `submit`: training as a Slurm job."""

from pathlib import Path
from shlex import split

from tyro.conf import Positional

from twoview.bench.config import recipe as recipes
from twoview.bench.training import slurm
from twoview.commands.output import show


def run(
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
    """Submit a training run to Slurm: torchrun on every node, one process per GPU; a preempted job is requeued.

    Args:
        recipe: a name from `twoview list recipes`, or a TOML file that all nodes can read.
        nodes: number of nodes.
        gpus: number of GPUs on each node; 0 means one process on the CPU.
        cpus: number of CPU cores on each node.
        hours: time limit; a job that reaches it is requeued and continues from its checkpoint.
        partition: partition of the cluster.
        sbatch: additional sbatch options, such as account=NAME qos=NAME.
        out: folder of checkpoints, script and logs, which all nodes can read and write.
        train_args: additional options of `twoview train`, such as --train-args="--seed 1 --optim.lr 0.3".
        dry_run: print the script instead of submitting it.
        json: print the result as JSON.
    """
    recipes.load(recipe)
    for option in sbatch:
        if "=" not in option:
            raise ValueError(f"--sbatch must be NAME=VALUE, got {option!r}")
    job = slurm.Job(nodes, gpus, cpus, hours, partition, dict(option.split("=", 1) for option in sbatch))
    words = [recipe, "--out", str(out.absolute()), *split(train_args)]
    if dry_run:
        text = slurm.script(words, job, out / "slurm")
        return show({"script": text}, json, text)
    number = slurm.submit(words, job, out / "slurm")
    show({"job": number, "logs": str(out / "slurm")}, json, f"job {number}; its script and logs are in {out}/slurm")
