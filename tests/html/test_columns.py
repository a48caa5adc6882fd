"""Cells as the page reads them: exact, and unknown is not zero."""

from __future__ import annotations

from fractions import Fraction

import pytest

from torchtally.profiler.report.html.columns import exact, figures, shapes, table, values, words


def test_figures_stay_exact_and_unknown_is_null() -> None:
    column = figures("saved_bytes", [0, None, 7], kind="bytes")
    assert column == {"name": "saved_bytes", "label": "saved bytes", "kind": "bytes", "cells": [0, None, 7]}


@pytest.mark.parametrize("beyond", [2**53 + 1, -(2**53) - 1, 10**30])
def test_what_a_browser_cannot_hold_goes_as_digits(beyond: int) -> None:
    assert exact(beyond) == f"{beyond:d}"
    assert exact(2**53) == 2**53


def test_each_word_is_said_once() -> None:
    column = words("phase", ["forward", None, "backward", "forward"])
    assert column["words"] == ["forward", "backward"]
    assert column["cells"] == [0, None, 1, 0]


def test_shapes_are_words() -> None:
    column = shapes("output_shape", [(2, 3), None, ()])
    assert column["words"] == ["2x3", "scalar"]
    assert column["cells"] == [0, None, 1]


def test_values_of_mixed_kinds() -> None:
    found = values("theory", [5, (4, 2), Fraction(6, 3), Fraction(1, 4), "none", True, None, 2**60])
    assert found["cells"] == [5, "4x2", 2, 0.25, "none", "True", None, "1,152,921,504,606,846,976"]


def test_a_table_is_as_long_as_its_columns() -> None:
    assert table([words("a", ["x", "y"])])["length"] == 2
    assert table([])["length"] == 0
