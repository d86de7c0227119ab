"""Read the measurements of a training run from its checkpoint."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twoview.bench.config.recipe import parse
from twoview.bench.evidence.records import Ceilings, Training
from twoview.methods import checkpoint
from twoview.methods.settings import first_fault


def measured(path: Path, state: dict[str, Any] | None = None) -> tuple[Training, Ceilings | None]:
    """Return the measurements that a training run stored in its checkpoint.

    path: the checkpoint. state: its content, if it was read already. The ceilings, which are the rates of the loader
    alone and of the model alone, are None if they could not be measured. Raises ValueError if the training run is not
    finished.
    """
    state = state or checkpoint.load(path)
    if "measured" not in state:
        epochs = parse(state["recipe"], str(path)).epochs
        raise ValueError(f"{path} is at epoch {state['epoch']} of {epochs}: finish it with `twoview train --resume`")
    return measured_in(state, path)


def measured_in(state: dict[str, Any], path: Path) -> tuple[Training, Ceilings | None]:
    """Return the measurements in a checkpoint's content.

    Raises ValueError, naming the checkpoint and the key, if a value there cannot come from a training run.
    """
    ceilings = state["measured"]["ceilings"]
    try:
        return Training(**state["measured"]["training"]), Ceilings(**ceilings) if ceilings else None
    except ValidationError as error:
        raise ValueError(f"{path} is not a checkpoint of twoview: measured.{first_fault(error)}") from None
