"""What a benchmark found, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HEADINGS = ("what", "figure", "baseline", "difference", "ratio", "target", "")


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised; told beside the figure, never asserted: the machine may be a busy one."""

    limit: float
    kind: Literal["at most", "at least"] = "at most"
    of: Literal["figure", "difference"] = "figure"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `baseline` is the same thing done as barely as possible, in the same run."""

    what: str
    value: float
    unit: str
    baseline: float | None = None
    target: Target | None = None

    @property
    def verdict(self) -> str:
        """met, missed, or nothing where nothing was promised."""
        if self.target is None:
            return ""
        found = self.value - (self.baseline or 0) if self.target.of == "difference" else self.value
        met = found <= self.target.limit if self.target.kind == "at most" else found >= self.target.limit
        return "met" if met else "MISSED"

    def cells(self) -> tuple[str, ...]:
        """One line of the table, in the order of HEADINGS."""
        if self.baseline is None:
            baseline = difference = ratio = ""
        else:
            baseline = f"{number(self.baseline)} {self.unit}"
            difference = f"{'+' if self.value >= self.baseline else ''}{number(self.value - self.baseline)}"
            ratio = f"{self.value / self.baseline:.2f}x" if self.baseline > 0 else ""
        target = ""
        if self.target is not None:
            sign = "<=" if self.target.kind == "at most" else ">="
            added = "added " if self.target.of == "difference" else ""
            target = f"{added}{sign} {number(self.target.limit)} {self.unit}"
        return (self.what, f"{number(self.value)} {self.unit}", baseline, difference, ratio, target, self.verdict)


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one benchmark, and one sentence on what was done."""

    title: str
    done: str
    figures: Sequence[Figure]


def number(value: float) -> str:
    """Three digits are as many as such a measurement deserves."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def plain(section: Section) -> str:
    """The section as aligned text."""
    rows = [HEADINGS, *(figure.cells() for figure in section.figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([f"{section.title.upper()}: {section.done}", *(f"  {line.rstrip()}" for line in lines), ""])


def markdown(section: Section) -> str:
    """The section as a Markdown table."""
    rows = [HEADINGS, ("---", *("---:" for _ in HEADINGS[1:])), *(figure.cells() for figure in section.figures)]
    return "\n".join([f"### {section.title}", "", section.done, "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of all lies; no interpolation, so a rare spike stays one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
