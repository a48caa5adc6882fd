"""Whose each nanosecond is, told from steps written by hand.

Every piece of a step takes another power of two, so that each sum says which pieces are in it: no other pieces have it.
"""

from __future__ import annotations

import pytest

from torchtally.profiler.capture.attribution import BEFORE
from torchtally.profiler.capture.entries import Request

from .tape import ACCUMULATE, NODE, Tape


def test_a_training_step() -> None:
    tape = Tape("", "fc")
    tape.boundary()
    tape.spend(1)  # Python, before the model
    with tape.module(""):
        tape.spend(2)
        with tape.module("fc"):
            tape.spend(4)
            number = tape.operator(8, "aten::addmm")
        tape.spend(16)
    tape.returned()
    tape.spend(32)  # Python, before the loss
    loss = tape.operator(64, "aten::mse_loss")
    tape.node(loss, 128)
    tape.spend(256)  # autograd, between its nodes
    tape.node(number, 512)
    tape.spend(1024)
    tape.accumulate(2048)
    tape.spend(4096)  # backward has returned
    with tape.range("Optimizer.step#SGD.step"):
        tape.spend(8192)
        with tape.range("aten::_foreach_add_"):
            tape.spend(16384)
    tape.spend(32768)
    tape.boundary()
    assert tape.step() == {
        ("", "python"): 1 + 32 + 4096 + 32768,
        ("", "forward"): 2 + 16,
        ("fc", "forward"): 4 + 8,
        ("", "loss"): 64 + 128,
        ("", "autograd"): 256 + 1024,
        ("fc", "backward"): 512,
        ("fc", "accumulation"): 2048,
        ("", "optimizer"): 8192 + 16384,
    }


def test_rows_and_gaps_add_up_to_the_step() -> None:
    tape = Tape("", "fc")
    tape.boundary(5)
    begins = tape.now
    with tape.module(""), tape.module("fc"):
        number = tape.operator(3)
    tape.returned()
    tape.spend(7)
    tape.node(number, 11)
    tape.spend(13)
    ends = tape.now
    tape.boundary(17)
    assert sum(tape.step().values()) == ends - begins == 3 + 7 + 11 + 13


def test_a_shared_module_has_the_sum_of_its_calls() -> None:
    tape = Tape("", "shared", "other")
    tape.boundary()
    with tape.module(""):
        with tape.module("shared"):
            first = tape.operator(1)
        with tape.module("other"):
            between = tape.operator(2)
        with tape.module("shared"):
            second = tape.operator(4)
    tape.returned()
    for number, nanoseconds in ((second, 8), (between, 16), (first, 32)):
        tape.node(number, nanoseconds)
    tape.boundary()
    assert tape.step() == {
        ("shared", "forward"): 1 + 4,
        ("other", "forward"): 2,
        ("shared", "backward"): 8 + 32,
        ("other", "backward"): 16,
    }


def test_an_operation_in_place_is_its_own_modules_in_backward() -> None:
    """The output of `linear` is overwritten by `relu`: the tensor's `grad_fn` is then relu's, each node keeps its
    number."""
    tape = Tape("linear", "relu")
    tape.boundary()
    with tape.module("linear"):
        linear = tape.operator(1, "aten::addmm")
    with tape.module("relu"):
        relu = tape.operator(2, "aten::relu_")
    tape.node(relu, 4)
    tape.node(linear, 8)
    tape.boundary()
    assert tape.step() == {
        ("linear", "forward"): 1,
        ("relu", "forward"): 2,
        ("relu", "backward"): 4,
        ("linear", "backward"): 8,
    }


def test_parallel_branches_whose_backward_is_interleaved() -> None:
    tape = Tape("", "left", "right")
    tape.boundary()
    with tape.module(""):
        with tape.module("left"):
            left = tape.operator(1), tape.operator(2)
        with tape.module("right"):
            right = tape.operator(4), tape.operator(8)
        added = tape.operator(16, "aten::add")
    tape.returned()
    tape.node(added, 32)
    for number, nanoseconds in ((right[1], 64), (left[1], 128), (right[0], 256), (left[0], 512)):
        tape.node(number, nanoseconds)
    tape.boundary()
    assert tape.step() == {
        ("left", "forward"): 1 + 2,
        ("right", "forward"): 4 + 8,
        ("", "forward"): 16,
        ("", "backward"): 32,
        ("right", "backward"): 64 + 256,
        ("left", "backward"): 128 + 512,
    }


def test_a_part_without_gradients_has_forward_alone() -> None:
    tape = Tape("", "frozen", "trained")
    tape.boundary()
    with tape.module(""):
        with tape.module("frozen"), tape.range("aten::addmm"):  # makes no node, and takes no number
            tape.spend(1)
        with tape.module("trained"):
            number = tape.operator(2)
    tape.returned()
    tape.node(number, 4)
    tape.boundary()
    assert tape.step() == {("frozen", "forward"): 1, ("trained", "forward"): 2, ("trained", "backward"): 4}


def test_a_step_without_gradients_has_no_loss() -> None:
    tape = Tape("")
    tape.boundary()
    with tape.module(""), tape.range("aten::addmm"):
        tape.spend(1)
    tape.returned(expects_loss=False)
    with tape.range("aten::argmax"):
        tape.spend(2)
    tape.boundary()
    assert tape.step() == {("", "forward"): 1, ("", "outside"): 2}


def test_recomputation_is_apart_from_the_backward_around_it() -> None:
    tape = Tape("", "block", "block.fc")
    tape.boundary()
    with tape.module(""):
        number = tape.operator(1, "CheckpointFunction")
    tape.returned()
    with tape.range(NODE + "CheckpointFunctionBackward", number):
        tape.spend(2)
        with tape.module("block"):
            tape.spend(4)
            with tape.module("block.fc"):
                inner = tape.operator(8)
        tape.spend(16)
        tape.node(inner, 32)  # a backward inside backward
        tape.spend(64)
    tape.boundary()
    assert tape.step() == {
        ("", "forward"): 1,
        ("", "backward"): 2 + 16 + 64,
        ("block", "recompute"): 4,
        ("block.fc", "recompute"): 8,
        ("block.fc", "backward"): 32,
    }


def test_a_gradient_is_accumulated_for_the_module_whose_backward_made_it() -> None:
    tape = Tape("first", "second")
    tape.boundary()
    with tape.module("first"):
        first = tape.operator(1)
    with tape.module("second"):
        second = tape.operator(2)
    tape.node(second, 4)
    tape.accumulate(8)
    tape.accumulate(16)
    tape.node(first, 32)
    with tape.range(ACCUMULATE), tape.range("aten::add_"):
        tape.spend(64)
    tape.boundary()
    spent = tape.step()
    assert spent["second", "accumulation"] == 8 + 16
    assert spent["first", "accumulation"] == 64


def test_gradients_that_meet_are_added_beside_a_node_and_an_addition_in_it_is_its_own() -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        number = tape.operator(1)
    with tape.range(NODE + "AddmmBackward0", number):
        tape.spend(2)
        with tape.range("AddmmBackward0", number), tape.range("aten::add"):
            tape.spend(4)
        with tape.range("aten::add_"):
            tape.spend(8)
        with tape.range("aten::sum"):  # a gradient made as small as what it is of
            tape.spend(16)
    tape.boundary()
    assert tape.step() == {("fc", "forward"): 1, ("fc", "backward"): 2 + 4 + 16, ("fc", "accumulation"): 8}


def test_a_gradient_of_an_older_graph_is_outside() -> None:
    tape = Tape("fc")
    tape.boundary()
    tape.node(BEFORE, 1)
    tape.boundary()
    assert tape.step() == {("", "outside"): 1}


def test_a_number_that_only_the_range_inside_a_node_has() -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        number = tape.operator(1)
    with tape.range(NODE + "ReluBackward0"):
        tape.spend(2)
        with tape.range("ReluBackward0", number):
            tape.spend(4)
        tape.spend(8)
    tape.boundary()
    assert tape.step() == {("fc", "forward"): 1, ("fc", "backward"): 2 + 4 + 8}


# What is no work ------------------------------------------------------------------------------------------------------


def test_a_range_of_the_users_own_changes_nothing() -> None:
    """`record_function("epoch")` around the whole step: it is neither work, nor is backward any less over."""
    tape = Tape("fc")
    tape.boundary()
    with tape.range("epoch"):
        tape.spend(1)
        with tape.module("fc"):
            number = tape.operator(2)
        tape.returned()
        tape.spend(4)
        tape.node(number, 8)
        tape.spend(16)
        tape.accumulate(32)
        tape.spend(64)
        with tape.range("aten::item"):
            tape.spend(128)
    tape.boundary()
    assert tape.step() == {
        ("", "python"): 1 + 4 + 64,
        ("fc", "forward"): 2,
        ("fc", "backward"): 8,
        ("", "autograd"): 16,
        ("fc", "accumulation"): 32,
        ("", "outside"): 128,
    }


@pytest.mark.parametrize("between", ["aten::ones_like", "Optimizer.zero_grad#SGD.zero_grad"])
def test_time_between_two_passes_of_backward_is_pythons(between: str) -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        first, second = tape.operator(1), tape.operator(2)
    tape.node(second, 4)
    tape.spend(8)
    with tape.range(between):
        tape.spend(16)
    tape.spend(32)
    tape.node(first, 64)
    tape.boundary()
    spent = tape.step()
    assert spent["", "python"] == 8 + 32
    assert ("", "autograd") not in spent


def test_clearing_gradients_is_no_loss_even_between_loss_and_backward() -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        tape.operator(1)
    tape.returned()
    with tape.range("Optimizer.zero_grad#SGD.zero_grad"):
        tape.spend(2)
        with tape.range("aten::zero_"):
            tape.spend(4)
    tape.boundary()
    assert tape.step() == {("fc", "forward"): 1, ("", "outside"): 2 + 4}


def test_other_threads_and_allocations_take_no_time_of_the_step() -> None:
    tape, other = Tape("fc"), Tape("fc", thread=2)
    tape.boundary()
    with tape.module("fc"):
        tape.operator(8)
    tape.boundary()
    with other.range("aten::copy_"):
        other.spend(4)
    request = Request(0x1000, 512, None)
    assert tape.steps(other.entries, [request]) == [{("fc", "forward"): 8}]


# Steps ----------------------------------------------------------------------------------------------------------------


def test_each_step_is_from_the_end_of_one_note_to_the_beginning_of_the_next() -> None:
    tape = Tape("fc")
    tape.spend(1)
    for nanoseconds in (2, 4):
        tape.boundary(8)
        with tape.module("fc"):
            tape.operator(nanoseconds)
    tape.boundary(16)
    tape.spend(32)
    assert tape.steps() == [{("fc", "forward"): 2}, {("fc", "forward"): 4}]


def test_a_step_that_was_cut_short_is_none() -> None:
    tape = Tape("fc")
    tape.boundary()
    with tape.module("fc"):
        tape.operator(1)
    assert tape.steps() == []
