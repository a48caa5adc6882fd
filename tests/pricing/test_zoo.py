"""A dozen and more models of the zoo that differ from one another; `benchmarks/zoo.py` runs all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import torchtally

sys.path.insert(0, str(Path(torchtally.__file__).parents[2] / "benchmarks"))

from zoo import measure
from zoo_models import entries, made
from zoo_oracle import DEFECTS

ENTRIES = {entry.name: entry for entry in entries()}
SUBSET = """
    alexnet convnext_tiny deeplabv3_mobilenet_v3_large densenet121 efficientnet_b0 fcos_resnet50_fpn googlenet
    maskrcnn_resnet50_fpn mobilenet_v2 mvit_v2_s raft_small resnet18 s3d shufflenet_v2_x0_5
    ssdlite320_mobilenet_v3_large swin3d_t swin_v2_t vit_h_14
""".split()
FROM_CONFIGS = [f"transformers:{name}" for name in ("bert", "gpt2", "llama", "t5", "vit", "whisper", "mixtral")]


@pytest.fixture(scope="module", autouse=True)
def transformers_in_place() -> None:
    """The first of its models adds a method to torch's modules; not in a test that looks for what we leave behind."""
    if FROM_CONFIGS[0] in ENTRIES:
        made(ENTRIES[FROM_CONFIGS[0]])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*SUBSET, *FROM_CONFIGS])
def test_zoo(name: str) -> None:
    """Parameters and products exact, nothing unpriced; FlopCounterMode's figures but where it is known to be wrong."""
    if name not in ENTRIES:
        pytest.skip("transformers is not installed")
    row = measure(ENTRIES[name])
    assert row.faults == []
    assert row.coverage == 1.0
    assert row.forward > 0 < row.backward


def test_listed_defects_are_of_models_that_exist() -> None:
    names = [name for name in ENTRIES if not name.startswith("transformers")]
    for prefixes in DEFECTS.values():
        for prefix in prefixes:
            assert prefix.startswith("transformers") or any(name.startswith(prefix) for name in names), prefix
