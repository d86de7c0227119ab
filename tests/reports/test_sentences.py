"""The sentences match the numbers, and they state bad results as plainly as good ones."""

from twoview.reports.leaderboard import leaderboard
from twoview.reports.loader_table import loader_table
from twoview.reports.over_seeds import summary
from twoview.reports.sentences import headline, stronger_pixels


def seeds(make, method="simclr", knn=(78.0, 79.0, 81.0), untrained=75.0, **fields):
    return [
        run
        for seed, top1 in enumerate(knn)
        for run in (
            make.run(knn=top1, seed=seed, method=method, training=make.training, ceilings=make.ceilings, **fields),
            make.run("untrained", knn=untrained, seed=seed, **fields),
        )
    ]


def test_the_headline_has_three_sentences(make):
    with_labels = [run for name in ("supervised", "supcon") for run in seeds(make, name, knn=(90.0, 91.0, 92.0))]
    table = summary(leaderboard([*seeds(make), *with_labels]))
    loader = loader_table([make.loader({"twoview": [100.0, 200.0], "torchvision": [50.0, 400.0]})])
    gain, rates, efficiency = headline(table, loader)
    assert gain == (
        "simclr reaches 79.33 % kNN top-1 on fashion-mnist after 3 epochs, 4.33 points above the same encoder untrained"
        " (+3.00 to +6.00 over 3 seeds, standard deviation 1.53)."
    )
    assert rates == (
        "The loader delivers 150 images/s (300 views/s) for simclr-imagenet at 224 px on 2 threads:"
        " 1.25 times torchvision."
    )
    assert efficiency == (
        "Training simclr on fashion-mnist handles 2,222 views/s, 88.9 % of the smaller of its two ceilings"
        " (the loader alone 5,000, the model alone 2,500); the bottleneck is the model,"
        " and 10.0 % of the time goes to waiting for data."
    )


def test_a_loss_is_called_a_loss_and_one_seed_has_no_spread(make):
    table = summary(leaderboard(seeds(make, knn=(74.0,))))
    assert (
        "1.00 points below the same encoder untrained (one seed, so no spread)" in headline(table, loader_table([]))[0]
    )


def test_a_gain_with_a_spread_precedes_a_larger_one_without(make):
    runs = [*seeds(make), *seeds(make, knn=(99.0,), dataset="cifar10")]
    assert "fashion-mnist" in headline(summary(leaderboard(runs)), loader_table([]))[0]


def test_nothing_is_claimed_without_evidence(make):
    nothing = headline(summary(leaderboard([])), loader_table([]))
    assert nothing[:2] == ["No encoder has been trained yet.", "The loader has not been measured."]
    gain, _, efficiency = headline(summary(leaderboard([make.run()])), loader_table([]))
    assert "no gain is claimed" in gain
    assert "no efficiency is claimed" in efficiency


def test_one_of_several_loader_workloads_is_named_and_the_others_are_counted(make):
    """The one with the most peers, then the largest, so that the sentence does not grow with the evidence."""
    small = make.loader({"twoview": [900.0], "torchvision": [90.0]}, size=32)
    large = make.loader({"twoview": [100.0], "torchvision": [50.0]}, size=224)
    with_two_peers = make.loader({"twoview": [400.0], "torchvision": [40.0], "ffcv": [200.0]}, size=96)
    nothing = summary(leaderboard([]))
    two = headline(nothing, loader_table([small, large]))[1]
    assert two.endswith("2.00 times torchvision; 1 other workload below.")
    said = headline(nothing, loader_table([small, large, with_two_peers]))[1]
    assert "at 96 px" in said and said.endswith("2.00 times ffcv and 10.00 times torchvision; 2 other workloads below.")


def test_two_machines_are_named(make):
    runs = [*seeds(make), *seeds(make, cpu="Zen 5", knn=(90.0, 91.0))]
    assert "on CPU, Zen 5 x2, 8 GiB, 15.50 points above" in headline(summary(leaderboard(runs)), loader_table([]))[0]


def test_raw_pixels_that_beat_every_encoder_are_mentioned(make):
    runs = [make.run(knn=79.0, linear=81.0), make.run("untrained", knn=75.0), make.run("pixels", knn=82.0, linear=80.0)]
    assert stronger_pixels(summary(leaderboard(runs))) == [
        "By kNN on fashion-mnist, raw pixels (82.00 %) beat every encoder; the best, simclr, reaches 79.00 %."
    ]


def test_raw_pixels_that_beat_one_of_two_encoders_are_mentioned(make):
    runs = [make.run(knn=79.0), make.run(knn=85.0, method="supervised"), make.run("pixels", knn=82.0, linear=80.0)]
    assert stronger_pixels(summary(leaderboard(runs))) == ["By kNN on fashion-mnist, raw pixels (82.00 %) beat simclr."]


def test_weaker_raw_pixels_are_not_mentioned(make):
    assert stronger_pixels(summary(leaderboard([make.run(), make.run("pixels", knn=60.0, linear=60.0)]))) == []
