"""The walkthrough's rules of a whole step, checked on its figures: theory's and the run's are asked alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..compare import Statements
from ..records import Phase
from ..verdict import Value
from .rules import Finding

BY_THE_CLOCK = "`torchtally audit --seconds` asks the clock"


def _flops(step: Statements, path: str, phase: Phase = "forward") -> int:
    """Of a block or layer, children included; of everything, for ""."""
    return sum(
        _number(figures, "flops")
        for (each, of), figures in step.items()
        if of == phase and (not path or each == path or each.startswith(f"{path}."))
    )


def _number(figures: Mapping[str, Value | None], quantity: str) -> int:
    figure = figures.get(quantity)
    return figure if isinstance(figure, int) else 0


def _dominates(step: Statements) -> Finding:
    share = 100 * sum(_flops(step, f"block{n}.conv") for n in (1, 2, 3)) / _flops(step, "")
    return Finding(share > 50, f"of FLOPs, {share:.1f} %; seconds are another matter: {BY_THE_CLOCK}")


def _bottlenecks(step: Statements) -> Finding:
    convolutions = [_flops(step, f"block{n}.conv") for n in (1, 2, 3)]
    first, last = (step.get((f"block{n}.conv", "forward"), {}).get("output_shape") for n in (1, 3))
    shrinks = isinstance(first, tuple) and isinstance(last, tuple) and last[2] < first[2]
    return Finding(
        shrinks and min(convolutions[1:]) > convolutions[0],
        f"by FLOPs: {', '.join(f'{flops:,}' for flops in convolutions)}; by seconds: {BY_THE_CLOCK}",
    )


def _scale_with_channels(step: Statements) -> Finding:
    """Conv2 to Conv3: C_in * C_out quadruples, positions quarter, and FLOPs stay."""
    two, three = (_flops(step, f"block{n}.conv") for n in (2, 3))
    return Finding(two == three, "Conv2 and Conv3 cost the same at a quarter of the positions")


def _early_layers(step: Statements) -> Finding:
    first, *others = (_flops(step, f"block{n}") for n in (1, 2, 3))
    return Finding(0 < first < min(others), f"{first:,} FLOPs against {min(others):,}")


def _middle_layers(step: Statements) -> Finding:
    first, *others = (_flops(step, f"block{n}") for n in (1, 2, 3))
    return Finding(min(others) > first, f"{min(others):,} FLOPs against {first:,}")


def _parameters_and_inputs(step: Statements) -> Finding:
    """Every layer with parameters gets their gradients; every layer but the first one that of its input."""
    backward = {path: figures for (path, phase), figures in step.items() if phase == "backward"}
    without = [
        path
        for path, figures in backward.items()
        if _number(figures, "flops") and not _number(figures, "gradient_bytes")
    ]
    trained = all(
        _number(backward.get(path, {}), "parameter_gradient_bytes")
        for (path, phase), figures in step.items()
        if phase == "forward" and _number(figures, "parameters")
    )
    return Finding(
        trained and len(without) <= 1,
        f"both, but for {', '.join(without)}, whose input is the images and needs none",
    )


ON_STEPS: dict[str, Callable[[Statements], Finding]] = {
    "backward.parameters_and_inputs": _parameters_and_inputs,
    "convolution.bottlenecks": _bottlenecks,
    "convolution.dominates": _dominates,
    "convolution.early_layers": _early_layers,
    "convolution.flops_scale_with_channels": _scale_with_channels,
    "convolution.middle_layers": _middle_layers,
}
