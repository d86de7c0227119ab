"""The cost of the probes compared with other libraries: one row per workload and machine, from its latest record."""

import math
import statistics
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pandas as pd

from twoview.bench.evidence import ProbeCost
from twoview.reports.cells import Column
from twoview.reports.leaderboard import commit_of
from twoview.reports.table import frame_of

TWOVIEW, PEERS = "twoview", ("faiss", "scikit-learn")
# The columns of the table. Each of our columns has a column for the peer.
COLUMNS = [
    Column("machine", "machine"),
    Column("probe", "probe", page=1, terminal=1, results=1),
    Column("features", "training features (n x dim)", page=2, terminal=10, results=2),
    Column("queries", "queries", 0, page=3, terminal=11, results=3),
    Column("setting", "settings", page=4, terminal=2, results=4),
    Column("threads", "threads", 0, page=5, terminal=3, results=5),
    Column("seconds", "time (s)", 2, page=6, terminal=4, results=6),
    Column("added", "added memory (MiB)", 0, page=7, terminal=8, results=7),
    Column("peer", "peer", page=8, terminal=5, results=8),
    Column("peer_seconds", "peer time (s)", 2, page=9, terminal=6, results=9),
    Column("peer_added", "peer added memory (MiB)", 0, page=10, terminal=9, results=10),
    Column("peer_over_ours", "peer time / twoview time", page=11, terminal=7, results=11),
    Column("top1_difference", "top-1 difference (points)", 2, page=12, terminal=12, results=12),
    Column("note", "note", page=13, terminal=13),
    Column("commit", "commit"),
    Column("date", "date", page=14),
    Column("name", "record", page=15),
]


def probe_table(records: Sequence[ProbeCost]) -> pd.DataFrame:
    """Return one row per workload and machine, with medians over the rounds.

    seconds, peer_seconds: time from the features to the accuracy. added, peer_added: peak memory beyond the features,
    in MiB. top1_difference: our top-1 minus the peer's, in points.
    peer_over_ours: the peer's time divided by ours: the median over the paired rounds and their range, as text.
    The peer is faiss or scikit-learn, or else the record's other library; its columns are empty if there is none. A
    library that is not installed has no numbers, and `note` says why.
    """
    newest = {(record.environment.machine, record.name): record for record in sorted(records, key=lambda r: r.created)}
    return frame_of([_row(record) for _, record in sorted(newest.items())], COLUMNS)


def _row(record: ProbeCost) -> dict[str, Any]:
    """Return the row of one record."""
    others = {*record.seconds, *record.notes} - {TWOVIEW}
    peer = next((name for name in (*PEERS, *sorted(others)) if name in others), "")
    ours, theirs = (record.seconds.get(side, []) for side in (TWOVIEW, peer))
    ratios = sorted(its / our for our, its in zip(ours, theirs, strict=False))
    return {
        "machine": record.environment.machine,
        "probe": "kNN" if record.probe == "knn" else record.probe,
        "features": f"{record.train:,} x {record.dim:,}",
        "queries": record.test,
        "setting": ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in record.settings.items()),
        "threads": record.threads,
        "seconds": statistics.median(ours) if ours else math.nan,
        "added": record.added_mib.get(TWOVIEW, math.nan),
        "peer": peer,
        "peer_seconds": statistics.median(theirs) if theirs else math.nan,
        "peer_added": record.added_mib.get(peer, math.nan),
        "peer_over_ours": f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else "",
        "top1_difference": record.top1.get(TWOVIEW, math.nan) - record.top1.get(peer, math.nan),
        "note": "; ".join(f"{side}: {reason}" for side, reason in record.notes.items()),
        "commit": commit_of(record.environment),
        "date": record.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": record.name,
    }
