"""Sentences that summarize the tables. Every number in them is computed from the evidence."""

from collections.abc import Iterable

import pandas as pd

from twoview.reports.loader_table import TWOVIEW, WORKLOAD, latest


def headline(summary: pd.DataFrame, loader: pd.DataFrame) -> list[str]:
    """Return the three most important sentences: the gain over untrained, the loader against peers, the efficiency.

    summary: the leaderboard over seeds. loader: the table of loader rates. Peers are other libraries' loaders.
    """
    several_machines = len(set(summary["machine"]) | set(loader["machine"])) > 1
    return [_gain(summary, several_machines), _loader(loader, several_machines), _efficiency(summary)]


def stronger_pixels(summary: pd.DataFrame) -> list[str]:
    """Return a sentence for each dataset, machine and probe where raw pixels beat a trained encoder."""
    several_machines = summary["machine"].nunique() > 1
    return [
        sentence
        for (dataset, machine), rows in summary.groupby(["dataset", "machine"])
        for probe in ("knn", "linear")
        if (sentence := _pixels_against(rows, probe, f"{dataset} ({machine})" if several_machines else f"{dataset}"))
    ]


def _lead(summary: pd.DataFrame) -> pd.Series:
    """Return the experiment for the headline: the self-supervised one that gains most over its untrained encoder.

    An experiment with several seeds is preferred to one with a single seed. Methods that learn from labels are only a
    reference, so they are used only if there is no other method.
    """
    candidates = summary[summary["uses_labels"] != "yes"]
    if candidates.empty:
        candidates = summary
    candidates = candidates.assign(with_spread=candidates["gain_seeds"] > 1)
    return candidates.sort_values(["with_spread", "knn_gain_mean", "knn_top1_mean"], ascending=False).iloc[0]


def _gain(summary: pd.DataFrame, several_machines: bool) -> str:
    """Return the sentence on the gain of the leading experiment over its untrained encoder."""
    if summary.empty:
        return "No encoder has been trained yet."
    lead = _lead(summary)
    reach = f"{lead['method']} reaches {lead['knn_top1_mean']:.2f} % kNN top-1 on {lead['dataset']}"
    reach += f" after {_count(lead['epochs'], 'epoch')}" + (f" on {lead['machine']}" if several_machines else "")
    if pd.isna(lead["knn_gain_mean"]):
        return f"{reach}; the same encoder untrained was not measured, so no gain is claimed."
    gain = lead["knn_gain_mean"]
    against = f"{abs(gain):.2f} points {'above' if gain >= 0 else 'below'} the same encoder untrained"
    if lead["gain_seeds"] > 1:
        against += (
            f" ({lead['knn_gain_min']:+.2f} to {lead['knn_gain_max']:+.2f} over {lead['gain_seeds']} seeds,"
            f" standard deviation {lead['knn_gain_sd']:.2f})"
        )
    else:
        against += " (one seed, so no spread)"
    pixels = lead["pixels_knn_top1_mean"]
    return f"{reach}, {against}" + ("." if pd.isna(pixels) else f"; raw pixels reach {pixels:.2f} %.")


def _loader(loader: pd.DataFrame, several_machines: bool) -> str:
    """Return the sentence on the loader, for the workload with the most peers and, among ties, the largest images.

    It also gives the number of other workloads.
    """
    works: list[tuple[int, int, int, pd.Series, pd.DataFrame]] = []
    for _, rows in latest(loader).groupby(WORKLOAD, dropna=False):
        ours = rows[(rows["contestant"] == TWOVIEW) & rows["images_per_s"].notna()]
        if not ours.empty:
            peers = rows[(rows["contestant"] != TWOVIEW) & rows["ours_over_it"].notna()]
            works.append((len(peers), ours.iloc[0]["size"], len(works), ours.iloc[0], peers))
    if not works:
        return "The loader has not been measured."
    *_, us, peers = max(works, key=lambda work: work[:3])
    sentence = f"The loader delivers {us['images_per_s']:,.0f} images/s ({us['views_per_s']:,.0f} views/s)"
    sentence += f" for {us['views']} at {us['size']} px on {_count(us['threads'], 'thread')}"
    sentence += f" of {us['machine']}" if several_machines else ""
    ratios = [f"{peer['ours_over_it']:.2f} times {_peer(peer)}" for _, peer in peers.iterrows()]
    sentence += f": {_and(ratios)}" if ratios else ", with no peer measured"
    others = len(works) - 1
    return sentence + (f"; {_count(others, 'other workload')} below." if others else ".")


def _peer(row: pd.Series) -> str:
    """Return a peer's name, with its note if its workload differs."""
    return f"{row['contestant']} ({row['note']})" if row["note"] else str(row["contestant"])


def _efficiency(summary: pd.DataFrame) -> str:
    """Return the sentence on the training rate compared with its ceilings, the rates of loader and model alone."""
    measured = summary[summary["efficiency"].notna()]
    if measured.empty:
        return "Training has not been compared with its ceilings, so no efficiency is claimed."
    lead = _lead(measured)
    return (
        f"Training {lead['method']} on {lead['dataset']} handles {lead['views_per_s']:,.0f} views/s,"
        f" {100 * lead['efficiency']:.1f} % of the smaller of its two ceilings (the loader alone"
        f" {lead['loader_views_per_s']:,.0f}, the model alone {lead['model_views_per_s']:,.0f});"
        f" the bottleneck is the {lead['bottleneck']}, and {100 * lead['data_wait_share']:.1f} % of the time"
        f" goes to waiting for data."
    )


def _pixels_against(rows: pd.DataFrame, probe: str, where: str) -> str:
    """Return the sentence on raw pixels that beat trained encoders by one probe; empty if they beat no encoder."""
    pixels, trained = rows[f"pixels_{probe}_top1_mean"], rows[f"{probe}_top1_mean"]
    untrained = rows[f"untrained_{probe}_top1_mean"]
    weaker = rows[pixels > trained]
    if weaker.empty:
        return ""
    name = {"knn": "kNN", "linear": "linear probe"}[probe]
    level = f"By {name} on {where}, raw pixels ({pixels.max():.2f} %) beat"
    if len(weaker) == len(rows) and not (untrained >= pixels).any():
        best = rows.sort_values(f"{probe}_top1_mean", ascending=False).iloc[0]
        return f"{level} every encoder; the best, {best['method']}, reaches {best[f'{probe}_top1_mean']:.2f} %."
    return f"{level} {_and(sorted(set(weaker['method'])))}."


def _count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _and(words: Iterable[str]) -> str:
    """Return words as a list in a sentence: "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
