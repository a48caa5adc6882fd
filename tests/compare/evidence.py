"""What the comparator judges, for one configuration, in a form that errors can be planted in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from torchtally.models.cnn import CNNConfig
from torchtally.profiler.audit.claim_row import ClaimRow
from torchtally.profiler.audit.runs import Observed, observe
from torchtally.profiler.audit.walkthrough import claim_rows, layer_rows, network_of
from torchtally.profiler.compare import ComparisonRow, is_failure
from torchtally.profiler.formulas import Formula
from torchtally.profiler.ledger import Row, build
from torchtally.profiler.pricing import PRICES, Prices
from torchtally.profiler.records import Trace
from torchtally.theory.claims.reader import load_claims
from torchtally.theory.claims.records import Claim
from torchtally.theory.layer import Layer
from torchtally.theory.network import Named, Network
from torchtally.theory.prediction import LayerPrediction, Prediction
from torchtally.theory.tensor import TensorSpec


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the witnesses have. Frozen: a planted error is in a copy."""

    observed: Observed
    network: Network
    prediction: Prediction
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts: layers by "path phase quantity", claims by id."""

    layers: dict[str, ComparisonRow]
    claims: dict[str, ClaimRow]

    def failing(self) -> dict[str, str]:
        """Layer rows that fail, each with who errs, or "unexplained"."""
        return {key: row.wrong or row.verdict for key, row in self.layers.items() if is_failure(row)}

    def answers(self) -> dict[str, tuple[str, str | None]]:
        """Claim id -> verdict and who errs."""
        return {name: (entry.row.verdict, entry.row.wrong) for name, entry in self.claims.items()}


WALKTHROUGH = CNNConfig()
SEPARABLE = CNNConfig(convolution="depthwise-separable")
OBLONG = CNNConfig(resolution=(33, 47))
IN_PLACE = CNNConfig(in_place=True)


@cache
def seen(config: CNNConfig, batch_size: int) -> Observed:
    """One real run per configuration, for all tests."""
    return observe(config, batch_size)


def images(config: CNNConfig, batch_size: int) -> TensorSpec:
    return TensorSpec((batch_size, config.in_channels, *config.resolution))


def evidence(config: CNNConfig = WALKTHROUGH, batch_size: int = 32) -> Evidence:
    """Nothing planted. Claims are of the walkthrough's settings alone."""
    network = network_of(config)
    return Evidence(
        observed=seen(config, batch_size),
        network=network,
        prediction=network.predict(images(config, batch_size)),
        claims=load_claims() if (config, batch_size) == (WALKTHROUGH, 32) else (),
    )


def judge_all(found: Evidence) -> Judged:
    layers = tuple(layer_rows(found.observed, found.network, found.prediction))
    claims = tuple(claim_rows(found.claims, found.observed, found.prediction, "cpu", layers))
    assert len({key(row) for row in layers}) == len(layers)
    return Judged(
        layers={key(row): row for row in layers},
        claims={entry.claim.id: entry for entry in claims},
    )


@cache
def judged_unchanged(config: CNNConfig, batch_size: int) -> Judged:
    return judge_all(evidence(config, batch_size))


def key(row: ComparisonRow) -> str:
    return f"{row.path or '(model)'} {row.phase} {row.quantity}"


# Planting -------------------------------------------------------------------------------------------------------------

Plant = Callable[[Evidence], Evidence]


def predicted(path: str, change: Callable[[LayerPrediction], LayerPrediction | None]) -> Plant:
    """Theory, with another row for that layer, or none."""

    def plant(found: Evidence) -> Evidence:
        rows = tuple(change(row) if row.path == path else row for row in found.prediction)
        return replace(found, prediction=Prediction(rows=tuple(row for row in rows if row is not None)))

    return plant


def form(path: str, change: Callable[[Any], Layer]) -> Plant:
    """Theory, with another closed form for that layer alone; its input, and what flows into it, stay."""

    def repredict(row: LayerPrediction) -> LayerPrediction:
        flows = row.backward is not None and row.backward.input_gradients[0] is not None
        (wrong,) = Network((Named(path, change(row.layer)),)).predict(row.input, input_requires_grad=flows)
        return wrong

    return predicted(path, repredict)


def settings(path: str, **changed: Any) -> Plant:
    """Theory, with other settings of that layer's closed form."""
    return form(path, lambda layer: replace(layer, **changed))


def formula(path: str, kind: type) -> Plant:
    """Theory, with a subclass in that layer's place: the same settings, one formula wrong."""
    return form(path, lambda layer: kind(**{each.name: getattr(layer, each.name) for each in fields(layer)}))


def priced(operator: str, wrong: Formula) -> Plant:
    """Count, with one operator's formula replaced."""
    table = dict(PRICES.items()) | {operator: wrong}
    return lambda found: _recounted(found, found.observed.trace, Prices(table))


def unpriced(operator: str) -> Plant:
    """Count, with one formula missing."""
    table = {name: each for name, each in PRICES.items() if name != operator}
    return lambda found: _recounted(found, found.observed.trace, Prices(table))


def traced(kind: str, change: Callable[[Any], Iterable[Any]]) -> Plant:
    """Count, with other facts: `change` gives what stands in a fact's place. `kind` is a field of `Trace`."""

    def plant(found: Evidence) -> Evidence:
        facts = tuple(new for fact in getattr(found.observed.trace, kind) for new in change(fact))
        return _recounted(found, replace(found.observed.trace, **{kind: facts}), PRICES)

    return plant


def _recounted(found: Evidence, trace: Trace, prices: Prices) -> Evidence:
    return replace(found, observed=replace(found.observed, trace=trace, ledger=build(trace, prices)))


def booked(change: Callable[[Row], Row | None]) -> Plant:
    """Count, with another ledger: `change` gives the row in a row's place, or None."""

    def plant(found: Evidence) -> Evidence:
        rows = tuple(new for row in found.observed.ledger.rows if (new := change(row)) is not None)
        return replace(found, observed=replace(found.observed, ledger=replace(found.observed.ledger, rows=rows)))

    return plant


def held(field: str, path: str, change: Callable[[Any], Any]) -> Plant:
    """Measured, with another entry for that layer, or none."""

    def plant(found: Evidence) -> Evidence:
        entries = dict(getattr(found.observed.storages, field))
        entries[path] = change(entries.get(path))
        left = {name: entry for name, entry in entries.items() if entry is not None}
        return replace(
            found, observed=replace(found.observed, storages=replace(found.observed.storages, **{field: left}))
        )

    return plant


def dispatched(path: str, phase: str, change: Callable[[int], int | None]) -> Plant:
    """FlopCounterMode, with another figure for that layer, or none."""

    def plant(found: Evidence) -> Evidence:
        counts = dict(found.observed.dispatcher)
        figure = change(counts.pop((path, phase), 0))
        if figure is not None:
            counts[path, phase] = figure
        return replace(found, observed=replace(found.observed, dispatcher=counts))

    return plant


def claimed(name: str, **changed: Any) -> Plant:
    """The document, with another claim under that id."""

    def plant(found: Evidence) -> Evidence:
        assert any(claim.id == name for claim in found.claims)
        claims = (replace(claim, **changed) if claim.id == name else claim for claim in found.claims)
        return replace(found, claims=tuple(claims))

    return plant
