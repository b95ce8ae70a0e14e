"""What travels in the wheel beside the package: the dashboard and its data, without the scripts that made the data."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DATA = {".csv", ".json", ".jsonl", ".md", ".npy", ".parquet", ".safetensors", ".txt"}
TARGET = "mixtral_probe/_bundled"


class Bundle(BuildHookInterface[Any]):
    """Adds `app/` and `data/`; an editable install reads them where they lie."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds."""
        if version == "editable":
            return
        root = Path(self.root)
        files = [*root.glob("app/**/*"), *(file for file in root.glob("data/**/*") if file.suffix in DATA)]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                build_data["force_include"][str(file)] = f"{TARGET}/{file.relative_to(root).as_posix()}"
