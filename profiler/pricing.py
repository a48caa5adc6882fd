"""What an operator costs, by the table of formulas.

An operator is looked up as `aten.add.Tensor`, then without its overload as `aten.add`, then, where it works in place,
as the same without the underscore. It is priced, or on the free list, or unpriced: named, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from .errors import PricingError
from .formulas import Formula, Price
from .formulas.table import FREE, TABLE
from .records import Signature


class Prices(Mapping[str, Formula]):
    """An immutable table of formulas, with the free list.

    `prices[name]` finds a formula by full or short operator name; `price(signature)` applies it.
    """

    def __init__(self, table: Mapping[str, Formula], free: frozenset[str] = FREE) -> None:
        self._table = MappingProxyType(dict(table))
        self.free = free

    def __getitem__(self, name: str) -> Formula:
        for candidate in _names(name):
            if candidate in self._table:
                return self._table[candidate]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def is_free(self, name: str) -> bool:
        """Whether the operator is a view, an allocation, or metadata."""
        return any(candidate in self.free for candidate in _names(name, in_place=False))

    def price(self, signature: Signature) -> Price | None:
        """The cost of one dispatch; None where there is no formula, or its formula cannot tell.

        Raises PricingError where the formula does not fit the signature, naming the operator.
        """
        if self.is_free(signature.operator):
            return Price()
        try:
            formula = self[signature.operator]
        except KeyError:
            return None
        try:
            price = formula(signature)
        except (TypeError, LookupError, AttributeError, ValueError, ArithmeticError, StopIteration) as error:
            raise PricingError(
                f"the formula for {signature.operator} does not fit the call {signature.arguments}: {error!r}"
            ) from error
        return _checked(price, signature.operator)

    def extend(self, formulas: Mapping[Any, Formula]) -> Prices:
        """A new table with more formulas, by operator or its name ("mylib.my_op", "mylib::my_op").

        Raises PricingError for one that has a price or is on the free list, and for what names no operator or is no
        formula.
        """
        if not isinstance(formulas, Mapping):
            raise PricingError(f"formulas are given as {{operator: formula}}, got {type(formulas).__name__}")
        named = {_operator_name(operator): formula for operator, formula in formulas.items()}
        for name, formula in named.items():
            if not callable(formula):
                raise PricingError(f"the formula for {name} must be callable with a Signature, got {formula!r}")
            if name in self._table or name in self.free:
                raise PricingError(f"{name} already has a price; a formula cannot be replaced, only added")
        return Prices({**self._table, **named}, self.free)


def _operator_name(operator: Any) -> str:
    """Of an operator, an overload, what `torch.library.custom_op` returns, or a name."""
    name = operator if isinstance(operator, str) else getattr(operator, "_qualname", None) or str(operator)
    name = name.replace("::", ".")
    if "." not in name or " " in name:
        raise PricingError(f'no operator is named {operator!r}; give "library.operator" or torch.ops.library.operator')
    return name


def _checked(price: Any, operator: str) -> Price | None:
    """A formula's answer, if it is one."""
    if price is None:
        return None
    if not isinstance(price, Price) or any(type(figure) is not int or figure < 0 for figure in price):
        raise PricingError(f"the formula for {operator} must return a torchtally.Price of integers >= 0, got {price!r}")
    if price.matmul_flops > price.flops:
        raise PricingError(f"the formula for {operator} says more matmul_flops than flops: {price!r}")
    return price


def _names(name: str, in_place: bool = True) -> Iterator[str]:
    """`aten.add_.Tensor` -> itself, `aten.add_`, `aten.add`; a name with a remark ("(nested tensors)") is its own."""
    yield name
    parts = name.split(".")
    if len(parts) == 3 and " " not in name:
        short = ".".join(parts[:2])
        yield short
        if in_place and short.endswith("_"):
            yield short[:-1]


PRICES = Prices(TABLE)
