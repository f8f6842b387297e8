"""The report page of a comparison."""

from pathlib import Path
from typing import Any


def write_report(report: dict[str, Any], directory: Path) -> Path:
    return directory / "report.html"
