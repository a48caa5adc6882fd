"""Build the wheel, install it alone in a clean environment, and find exactly one new top-level name: torchtally.

Also: the command is installed, and neither `import torchtally` nor `import torchtally.theory` needs torch, which that
environment does not have.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def names(site: Path) -> set[str]:
    """Importable top-level names in a site-packages folder."""
    return {
        path.stem
        for path in site.iterdir()
        if path.suffix in (".py", ".pth") or (path.is_dir() and path.suffix != ".dist-info")
    } - {"__pycache__"}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
        (wheel,) = (work / "dist").glob("*.whl")
        venv.create(work / "clean", with_pip=True)
        python = work / "clean" / "bin" / "python"
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=work).strip())
        before = names(site)
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=work)
        added = names(site) - before
        if added != {"torchtally"}:
            print(f"the wheel adds the top-level names {sorted(added)}; it must add torchtally alone")
            return 1
        if not (work / "clean" / "bin" / "torchtally").exists():
            print("the wheel does not install the torchtally command")
            return 1
        run(
            python,
            "-c",
            "import importlib.resources, torchtally, torchtally.theory.claims.reader as r; "
            "assets = importlib.resources.files(torchtally) / 'profiler' / 'report' / 'html' / 'assets'; "
            "assert len(r.load_claims()) > 285; "
            "assert {'page.html', 'style.css'} <= {each.name for each in assets.iterdir()}",
            cwd=work,
        )
    print(f"{wheel.name}: one top-level name, its command, its data")
    return 0


if __name__ == "__main__":
    sys.exit(main())
