from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_makes_the_labels_that_come_with_rtok(tmp_path: Path) -> None:
    out = tmp_path / "labels.txt"
    command = [sys.executable, "scripts/make_labels.py", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert out.read_bytes() == (ROOT / "labels.txt").read_bytes()
