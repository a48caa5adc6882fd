from typing import Any

import pytest

from torchtally.theory.cost import ZERO, Cost


def test_a_multiply_add_is_two_flops_and_both_are_matmul() -> None:
    m, k, n = 3, 5, 7
    assert Cost.matmul(m * k * n) == Cost(flops=2 * m * n * k, matmul_flops=2 * m * n * k)


def test_elementwise_costs_are_no_products() -> None:
    assert Cost.elementwise(10) == Cost(flops=10)
    assert Cost.elementwise(10, 5) == Cost(flops=50)


def test_costs_add_and_scale_field_by_field() -> None:
    total = Cost(flops=1, matmul_flops=2, bias_flops=3) + Cost(flops=10, matmul_flops=20, bias_flops=30)
    assert total == Cost(flops=11, matmul_flops=22, bias_flops=33)
    assert 3 * total == total * 3 == Cost(flops=33, matmul_flops=66, bias_flops=99)
    assert sum([total, total], start=ZERO) == 2 * total


def test_a_number_is_no_cost() -> None:
    number: Any = 1
    with pytest.raises(TypeError):
        Cost() + number
