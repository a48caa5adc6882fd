"""The walkthrough's results as data, one row each, and whether each follows from the walkthrough's own rules.

`walkthrough.tsv` holds the figures, `quantities` says what each of them means, `rules` what it should be.
"""

from .arithmetic import Arithmetic, Result, arithmetic, arithmetic_of, in_words
from .quantities import MEANINGS, RULES, UNITS, Unit
from .reader import ClaimError, load_claims, read_claims
from .records import Claim, Number, Own, Phase, Range, Relation, Shape, Value, roundings
from .rules import by_own_rules

__all__ = [
    "MEANINGS",
    "RULES",
    "UNITS",
    "Arithmetic",
    "Claim",
    "ClaimError",
    "Number",
    "Own",
    "Phase",
    "Range",
    "Relation",
    "Result",
    "Shape",
    "Unit",
    "Value",
    "arithmetic",
    "arithmetic_of",
    "by_own_rules",
    "in_words",
    "load_claims",
    "read_claims",
    "roundings",
]
