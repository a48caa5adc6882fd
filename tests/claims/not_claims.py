"""The walkthrough's numbers that claim nothing, each with the reason; patterns are of its plain text."""

from __future__ import annotations

from .accounting import NoClaim

AFTER_THE_TASK = frozenset(range(61, 893))

# Lines on which a number that looks like a factor is a claim; what is a factor there stands below.
CLAIMED_FACTORS = frozenset({85, 142, 170, 260, 278, 360, 378, 443, 491, 631, 640, 661})

NOT_CLAIMS = (
    NoClaim(
        reason="title, contents, pictures, the architecture and the task: given",
        where=frozenset(range(1, 61)),
    ),
    NoClaim(reason="a heading", pattern=r"^#+ .*"),
    NoClaim(reason="the number of a list item", pattern=r"^ *\d\.(?= )", where=AFTER_THE_TASK),
    NoClaim(reason="a layer's or a block's name", pattern=r"\b(?:Conv|BatchNorm|ReLU|MaxPool|Block )\d(?:, \d)?"),
    NoClaim(reason="a number format's name", pattern=r"32-bit|FP16|FP32"),
    NoClaim(
        reason="a layer's settings: given",
        pattern=r"^- (?:Filters: C|Kernel Size|Stride|Padding|Number of channels|Output Classes).*",
    ),
    NoClaim(
        reason="a setting or an earlier result, said again",
        pattern=r"size 32×32 pixels|of 128 channels in each of 32 batches|Divide by 16|for 10 classes"
        r"|32×32×3 flattened input to 128 features|32×32 → 64×64",
        where=frozenset({96, 454, 456, 475, 866, 890}),
    ),
    NoClaim(
        reason="a factor or term of an equation, or of a formula",
        pattern=r"\d[\d,]*(?= [×+=])|(?<=× )\d+(?=\))",
        where=AFTER_THE_TASK - CLAIMED_FACTORS,
    ),
    NoClaim(
        reason="a factor before the one that is a result",
        pattern=r"\d+(?= ×)|(?<=× )\d+(?=\))",
        where=frozenset({142, 260, 278, 360, 378, 491}),
    ),
    NoClaim(reason="factors of an equation", pattern=r"(?<== )5 × 32 × 32 × 32", where=frozenset({170})),
    NoClaim(
        reason="sizes put into the formula for the output's size",
        pattern=r"\(\d+ (?:\+ 2\(\d\) )?- \d\)/\d|(?<=\d)/\d(?= ⌋)",
        where=frozenset({119, 121, 204, 206, 244, 307, 345, 407}),
    ),
    NoClaim(
        reason="the 1 of 1/16; bounds of a sum, again",
        pattern=r"(?<== )1/(?=16)|(?<=16) Σ.*",
        where=frozenset({443}),
    ),
    NoClaim(reason="the 1 of 1/16", pattern=r"by 1/", where=frozenset({575})),
    NoClaim(reason="the indicator's notation", pattern=r"1_\(x > 0\) is", where=frozenset({620})),
)
