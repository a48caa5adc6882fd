"""What a step's seconds were: samples of several steps, read. Pure: it needs no torch and takes no time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from ...theory.phase import GAPS, Gap, Phase

if TYPE_CHECKING:
    import pandas as pd

Place: TypeAlias = tuple[str, "Phase | Gap"]
"""A module path and phase; or "" and a gap."""

NOISY = 0.05  # of the step; above it a difference of as much says nothing

_NANOSECOND = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of the same thing in several steps.

    `spread` is the median distance from the median: half of all samples lie nearer.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> float:
        middle = self.median
        return median(abs(each - middle) for each in self.seconds)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The seconds of a step on one device, from steps that took turns.

    `bare` has the nanoseconds of steps with nothing installed; `observed` those of the others, by module path and
    phase, or gap, adding up to the step each. Where `predicted`, no step was taken: there is one of each, and it is
    what calibration makes of a count. `notes` says in words what could not be seen. Raises ValueError where either has
    no step.
    """

    bare: tuple[int, ...]
    observed: tuple[Mapping[Place, int], ...]
    device: str = "cpu"
    predicted: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.bare or not self.observed:
            raise ValueError("a timing needs at least one bare and one observed step")

    @cached_property
    def step(self) -> Sample:
        """The step as it is when nobody looks."""
        return Sample(tuple(each * _NANOSECOND for each in self.bare))

    @cached_property
    def observed_step(self) -> Sample:
        """The step under observation: what the rows add up to."""
        return Sample(tuple(each * _NANOSECOND for each in self._lengths))

    @property
    def seconds(self) -> float:
        """The median bare step: observation is no part of it."""
        return self.step.median

    @property
    def overhead(self) -> float:
        """The observed step over the bare one: 1.02 where observing costs 2 %."""
        return self.observed_step.median / self.step.median

    @property
    def closure(self) -> float:
        """The part of the observed step that layers, loss and optimizer explain, in [0, 1]: the rest is work outside
        them, and gaps."""
        unexplained = sum(self.spent(path, what) for path, what in self.places if what == "outside" or what in GAPS)
        return 1.0 - unexplained / self.middle

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the steps were too uneven to be told apart from each other."""
        samples = {"unobserved": self.step, "observed": self.observed_step}
        return tuple(
            f"noisy: the {name} step takes {sample.median:.4g} s give or take {sample.spread / sample.median:.0%} "
            f"({len(sample.seconds)} steps); no row is more certain than that"
            for name, sample in samples.items()
            if sample.spread > NOISY * sample.median
        )

    # Rows ---------------------------------------------------------------------------------------------------------

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every module path and phase, and every gap, in which an observed step spent time; in order of the first."""
        return tuple(dict.fromkeys(place for spent in self.observed for place in spent))

    def sample(self, path: str, what: Phase | Gap) -> Sample:
        """The seconds there in each observed step; 0 in those that did not come by."""
        return Sample(tuple(spent.get((path, what), 0) * _NANOSECOND for spent in self.observed))

    def spent(self, path: str, what: Phase | Gap) -> float:
        """The seconds there: the mean over the middle half of the observed steps, by length.

        Medians of rows do not add up to the median of their sum; means over the same steps do, and the slowest and
        fastest steps, where something else happened, are not among them.
        """
        return sum(spent.get((path, what), 0) for spent in self._middle) * _NANOSECOND / len(self._middle)

    def share(self, path: str, what: Phase | Gap) -> float:
        """The part of the observed step, in [0, 1]. Over all places, 1."""
        return self.spent(path, what) / self.middle

    @cached_property
    def middle(self) -> float:
        """Seconds of the observed step, to which all rows and gaps add up."""
        return sum(map(_total, self._middle)) * _NANOSECOND / len(self._middle)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per place: `path`, `phase` (or gap), `seconds` and `share`, which add up to the observed step and to 1;
        `median` and `spread` over all samples."""
        from ..report.frame import timing_frame

        return timing_frame(self)

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(map(_total, self.observed))

    @cached_property
    def _middle(self) -> tuple[Mapping[Place, int], ...]:
        order = sorted(range(len(self.observed)), key=lambda step: self._lengths[step])
        return tuple(self.observed[step] for step in _without_quarters(order))


def _total(spent: Mapping[Place, int]) -> int:
    return sum(spent.values())


def _without_quarters(ordered: Sequence[int]) -> Iterable[int]:
    """Without the first and the last quarter, rounded down: 1 of 4 each, none of 3."""
    quarter = len(ordered) // 4
    return ordered[quarter : len(ordered) - quarter]
