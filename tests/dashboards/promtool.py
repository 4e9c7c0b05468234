"""Whether promtool can parse the queries of panels."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml


def check(promtool: str, expressions: Sequence[str], directory: Path) -> str:
    """Return what promtool says of the queries. Raises AssertionError with it if one is wrong."""
    rules = [
        {"record": f"panel:query:{number}", "expr": expression}
        for number, expression in enumerate(expressions)
    ]
    file = directory / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    completed = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout
