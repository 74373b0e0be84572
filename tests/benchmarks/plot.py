"""The plot of a release: how long a change takes, by the number of virtual services, beside what others need."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tests.benchmarks.page import GLOO_EDGE, TRAEFIK
from tests.benchmarks.results import Run

_OURS: Final = {"color": "#0b6e4f", "marker": "o"}
_OTHERS: Final = {"color": "#8a8a8a", "marker": "s", "markersize": 4}


def draw(run: Run, path: Path) -> None:
    """Writes an SVG; the same figures make the same bytes."""
    mpl.rcParams.update({"svg.hashsalt": "gloo-nomad", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(7.2, 4.5), layout="constrained")
    axes = figure.add_subplot()
    lines = (
        ({size: figures[0] for size, figures in GLOO_EDGE.items()}, "Gloo Edge, to the response", "-", _OTHERS),
        (TRAEFIK, "Traefik 3.6, to the first answer", "--", _OTHERS),
        (_medians(run, "envoy"), "gloo-nomad, to the first answer through Envoy", "--", _OURS),
        (_medians(run, "change_virtual_service"), "gloo-nomad, to the response", "-", _OURS),
        (_reads(run), "bare read of Consul", ":", {"color": "#c26a00"}),
    )
    for values, label, style, look in lines:
        if values:
            axes.plot(list(values), list(values.values()), style, label=label, **look)
    axes.set(xscale="log", yscale="log", xlabel="virtual services of ten routes", ylabel="one change, median")
    axes.xaxis.set_major_locator(FixedLocator(sorted({size for values, *_ in lines for size in values})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1000:g} s" if value >= 1_000 else f"{value:g} ms")
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)  # inside it would hide a line
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _medians(run: Run, case: str) -> Mapping[int, float]:
    return {row.size: row.median for row in run.results if row.case == case}


def _reads(run: Run) -> Mapping[int, float]:
    rows = (row for row in run.results if row.case == "change_virtual_service")
    return {row.size: row.read for row in rows if row.read is not None}
