"""`theory` knows nothing of torch: it imports the standard library and itself."""

import ast
import subprocess
import sys
from pathlib import Path

import torchtally.theory as theory

FOLDER = Path(theory.__file__).parent


def imported(source: str) -> set[str]:
    """The top-level modules that a source imports; "." for the folder itself, ".." for what is around it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level or str(node.module).partition(".")[0])
    return names


def test_only_the_standard_library() -> None:
    for path in FOLDER.glob("*.py"):
        outside = imported(path.read_text(encoding="utf-8")) - {"."} - set(sys.stdlib_module_names)
        assert not outside, f"{path.name} imports {outside}"


def test_the_check_can_fail() -> None:
    assert imported("import torch.nn\nfrom ..profiler import x\nfrom .cost import Cost") == {
        "torch",
        "..",
        ".",
    }


def test_importing_theory_does_not_import_torch() -> None:
    code = "import sys, torchtally.theory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_exist_once() -> None:
    assert len(theory.__all__) == len(set(theory.__all__))
    assert all(hasattr(theory, name) for name in theory.__all__)
