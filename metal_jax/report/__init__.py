"""Reports to look at: one HTML file that opens from disk, and the same figures by matplotlib.

`label_model_report`, `network_report` and `exhaust_report` say what is on a page; `write_html`
writes it as one file without a network, `write_png` its figures as pictures; the `plot_` functions
draw them one by one.
"""

from metal_jax.report._blocks import (
    Column,
    Detail,
    Example,
    Examples,
    Facts,
    Figures,
    Findings,
    Interval,
    Mark,
    PagedTable,
    Paragraph,
    Preformatted,
    Report,
    Section,
    Table,
)
from metal_jax.report._exhaust_figures import Forecast, Search
from metal_jax.report._exhaust_plots import plot_predicted, plot_run_curves, plot_search
from metal_jax.report._exhaust_report import exhaust_report
from metal_jax.report._figures import (
    Bars,
    Dots,
    DotSeries,
    HeatMap,
    Lines,
    Points,
    Series,
    TreeDrawing,
)
from metal_jax.report._label_advice import bare_items
from metal_jax.report._label_report import label_model_report
from metal_jax.report._matplotlib import draw_axes, write_png
from metal_jax.report._network_report import Training, network_report
from metal_jax.report._page import to_html, write_html
from metal_jax.report._plots import (
    plot_calibration,
    plot_class_balance,
    plot_confidence,
    plot_conflicts,
    plot_confusion,
    plot_contributions,
    plot_convergence,
    plot_label_distribution,
    plot_learning_curves,
    plot_lf_accuracy,
    plot_overlaps,
    plot_task_tree,
)

__all__ = [
    "Bars",
    "Column",
    "Detail",
    "DotSeries",
    "Dots",
    "Example",
    "Examples",
    "Facts",
    "Figures",
    "Findings",
    "Forecast",
    "HeatMap",
    "Interval",
    "Lines",
    "Mark",
    "PagedTable",
    "Paragraph",
    "Points",
    "Preformatted",
    "Report",
    "Search",
    "Section",
    "Series",
    "Table",
    "Training",
    "TreeDrawing",
    "bare_items",
    "draw_axes",
    "exhaust_report",
    "label_model_report",
    "network_report",
    "plot_calibration",
    "plot_class_balance",
    "plot_confidence",
    "plot_conflicts",
    "plot_confusion",
    "plot_contributions",
    "plot_convergence",
    "plot_label_distribution",
    "plot_learning_curves",
    "plot_lf_accuracy",
    "plot_overlaps",
    "plot_predicted",
    "plot_run_curves",
    "plot_search",
    "plot_task_tree",
    "to_html",
    "write_html",
    "write_png",
]
