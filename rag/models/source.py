"""Find a sentence-transformers model on this machine and read who it is. Nothing is ever downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from rag.errors import ModelError
from rag.models.registry import sha256_of

# Hugging Face writes licences in lower case; SPDX does not.
_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-4.0": "CC-BY-4.0"}


@dataclass(frozen=True, slots=True)
class Source:
    """Original weights on this machine.

    Attributes:
        folder: Where they lie.
        name: Name of the folder or of the package; never a path.
        revision: ``sha256:`` and the digest of the weights file, or of the digests of its parts in order of name.
        licence: What the README.md beside it says, as SPDX name where known, or ``unknown``.
    """

    folder: Path
    name: str
    revision: str
    licence: str


def find_source(source: str) -> Source:
    """Find the folder of a sentence-transformers model on this machine.

    Args:
        source: A folder, or the name of an installed package that carries one in its folder ``model``.

    Returns:
        The source, with its weights hashed.

    Raises:
        ModelError: If there is none, or it has no weights.
    """
    folder = Path(source)
    if (folder / "config.json").is_file():
        return _read_source(folder, folder.resolve().name)
    package = source.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "model" / "config.json").is_file():
            return _read_source(Path(location) / "model", package)
    raise ModelError(
        f"model source {source!r} is neither a folder with config.json nor an installed package that carries a model; "
        "nothing is downloaded: give the path of a sentence-transformers model on this machine"
    )


def _read_source(folder: Path, name: str) -> Source:
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights:
        raise ModelError(f"model source {folder} has no weights; expected model.safetensors or pytorch_model.bin")
    digests = [sha256_of(path) for path in weights]
    revision = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    stated = re.search(r"^license:\s*(\S+)", text, re.MULTILINE)
    return Source(folder, name, f"sha256:{revision}", _SPDX.get(stated[1], stated[1]) if stated else "unknown")
