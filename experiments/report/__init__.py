"""The report: one self-contained HTML page about one run or several, or their tables in Markdown."""

from experiments.report.markdown import write_markdown
from experiments.report.page import write_report

__all__ = ["write_markdown", "write_report"]
