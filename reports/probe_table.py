"""Records of what the probes cost -> rows: one row a work, the latest record of it on each machine."""

import math
import statistics
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pandas as pd

from twoview.bench.evidence import ProbeCost
from twoview.reports.leaderboard import commit_of

OURS, PEERS = "twoview", ("faiss", "scikit-learn")
COLUMNS = [
    "machine",
    "probe",
    "features",
    "queries",
    "setting",
    "threads",
    "seconds",
    "added",
    "peer",
    "peer_seconds",
    "peer_added",
    "peer_over_ours",
    "top1_difference",
    "note",
    "commit",
    "date",
    "name",
]


def probe_table(records: Sequence[ProbeCost]) -> pd.DataFrame:
    """Medians over the rounds; `peer_over_ours` is the median of the paired rounds' ratios and their range, in words.

    The peer is the one of ours, or else the other contestant that there is; of none the columns are empty. A side that
    was absent has no numbers, and `note` says why.
    """
    newest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    return pd.DataFrame([_row(record) for _, record in sorted(newest.items())], columns=COLUMNS)


def _row(record: ProbeCost) -> dict[str, Any]:
    others = {*record.seconds, *record.notes} - {OURS}
    peer = next((name for name in (*PEERS, *sorted(others)) if name in others), "")
    ours, theirs = (record.seconds.get(side, []) for side in (OURS, peer))
    ratios = sorted(its / our for our, its in zip(ours, theirs, strict=False))
    return {
        "machine": record.environment.machine,
        "probe": "kNN" if record.probe == "knn" else record.probe,
        "features": f"{record.train:,} x {record.dim:,}",
        "queries": record.test,
        "setting": ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in record.settings.items()),
        "threads": record.threads,
        "seconds": statistics.median(ours) if ours else math.nan,
        "added": record.added_mib.get(OURS, math.nan),
        "peer": peer,
        "peer_seconds": statistics.median(theirs) if theirs else math.nan,
        "peer_added": record.added_mib.get(peer, math.nan),
        "peer_over_ours": f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else "",
        "top1_difference": record.top1.get(OURS, math.nan) - record.top1.get(peer, math.nan),
        "note": "; ".join(f"{side}: {reason}" for side, reason in record.notes.items()),
        "commit": commit_of(record.environment),
        "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": record.name,
    }
