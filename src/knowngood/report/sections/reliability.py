"""Whether a score of 0.3 means that 3 of 10 such units are bad."""

from __future__ import annotations

from knowngood.decide.curves import reliability
from knowngood.decide.threshold import proportion_interval
from knowngood.report.chart import Chart, linear
from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary


def calibration(run: RunSummary) -> Section | None:
    """Makes the reliability plot, bins of equal counts with exact intervals."""
    if run.shown["label"].n_unique() < 2 or run.config.get("one_class"):  # scores of distances are no probabilities
        return None
    found = reliability(run.shown["label"].to_numpy(), run.shown["score"].to_numpy())
    chart = Chart(linear("mean score of the bin", 0, 1), linear("share of bads in the bin", 0, 1))
    chart.line([(0, 0), (1, 1)], "faint")
    for mean, share, count in zip(found.score, found.share_bad, found.count, strict=True):
        chart.whisker(mean, *proportion_interval(round(share * count), int(count)), "ink")
    chart.dots(list(zip(found.score.tolist(), found.share_bad.tolist(), strict=True)), "mark", 4.5)
    body = render(
        "sections/calibration.html",
        plot=chart.svg("Reliability plot: share of bads over mean score, bins of equal counts"),
        figures=run.figures,
        count=int(found.count.mean()),
    )
    return Section("calibration", "Do the scores mean what they say?", body)
