"""Seconds of operators that were never timed, from those of operators like them that were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

from .features import Features

NEIGHBOURS = 6
_NEAR = 0.05  # shapes 5 % apart are as good as the same


@dataclass(frozen=True, slots=True)
class Sample:
    """An operator that was timed: seconds of one call, inside a training step."""

    features: Features
    seconds: float


class Curves:
    """Seconds per unit of work, over sizes, for each kind of operator: between samples the mean of the nearest, the
    nearer the weightier, in logarithms."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._kinds: dict[str, list[Sample]] = defaultdict(list)
        self._families: dict[str, list[Sample]] = defaultdict(list)
        for sample in _apart(samples):
            self._kinds[sample.features.kind].append(sample)
            self._families[sample.features.family].append(sample)

    def seconds(self, features: Features) -> float | None:
        """Of one call: of its kind, where that was timed, else of its family. None where that was not timed either."""
        found = self._kinds.get(features.kind) or self._families.get(features.family)
        return _between(features, found) if found else None


def _apart(samples: Iterable[Sample]) -> Iterable[Sample]:
    """One for each size: the median of all that were timed at it, in whatever networks."""
    found: dict[Features, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.seconds > 0:
            found[sample.features].append(sample.seconds)
    return (Sample(features, median(seconds)) for features, seconds in found.items())


def _between(features: Features, samples: Sequence[Sample]) -> float:
    near = sorted((_distance(features.sizes, sample.features.sizes), n) for n, sample in enumerate(samples))
    weights = [(1 / (distance + _NEAR) ** 2, samples[n]) for distance, n in near[:NEIGHBOURS]]
    whole = sum(weight for weight, _ in weights)
    rate = sum(weight * log(sample.seconds / sample.features.work) for weight, sample in weights) / whole
    return features.work * exp(rate)


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)
