"""Language models as GGUF files: keep one under a name, find, list and verify it.

An added model is a folder ``gguf/NAME`` of the models folder with ``model.gguf`` and ``card.json``, apart from the embedding models.
Only headers are read (`gguf_header`); weights are left to what runs them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from rag.errors import InputError, ModelError
from rag.models.card import CARD_NAME, FINGERPRINT_DIGITS
from rag.models.gguf_header import GgufHeader, one_line, read_header
from rag.models.registry import check_name, sha256_of

# Folder in the models folder; no embedding model may have this name.
GGUF_DIR = "gguf"
_FILE_NAME = "model.gguf"
# Raised when a key is added, removed or changes its meaning.
_CARD_FORMAT = 1
_CARD_KINDS = {"format": int, "name": str, "source": str, "sha256": str, "size_bytes": int, "header": dict}


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A language model on this machine.

    Attributes:
        name: Of an added model its name, of a file its name without the ending.
        source: Name of the file that it came from; never a path.
        fingerprint: SHA-256 of an added model's file; of another file that of its size and time, for hashing gigabytes at every
            start would cost more than loading them.
        size_bytes: Of the file.
        header: What the file says.
        path: The file.
    """

    name: str
    source: str
    fingerprint: str
    size_bytes: int
    header: GgufHeader
    path: Path

    @property
    def id(self) -> str:
        """Name and fingerprint, for answers and cache keys."""
        return f"{self.name}@{self.fingerprint[:FINGERPRINT_DIGITS]}"


def add_gguf(source: Path, name: str, models_dir: Path, *, replace: bool = False) -> GgufModel:
    """Keep a copy of a GGUF file under a name.

    Args:
        source: The file.
        name: Name of the new model.
        models_dir: Folder of the added models, made when missing. The new model appears there whole or not at all.
        replace: Whether to replace an added model of that name.

    Returns:
        The model, as `find_gguf` finds it.

    Raises:
        ModelError: As `read_header`; ``model_exists`` if the name is taken, ``model_not_saved`` if it cannot be written. A bad name is
            an InputError.
    """
    if check_name(name).endswith(".gguf"):
        raise InputError(f"model name {name!r} would be read as a path; allowed: one that does not end in .gguf")
    header = read_header(source)
    target = models_dir / GGUF_DIR / name
    try:
        if target.exists() and not replace:
            raise ModelError(f"{name!r} exists in {target.parent}; give another --name, or --replace", code="model_exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
            made = Path(scratch) / name
            made.mkdir()
            path = made / _FILE_NAME
            shutil.copyfile(source, path)  # no link: a file that is written in place elsewhere must not change this one
            found = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size, "header": dataclasses.asdict(header)}
            card = {"format": _CARD_FORMAT, "name": name, "source": one_line(os.fsencode(source.name))} | found
            (made / CARD_NAME).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            for written in (path, made / CARD_NAME, made):
                _sync(written)
            if target.exists():
                os.rename(target, Path(scratch) / "replaced")
            os.rename(made, target)
        _sync(target.parent)
    except OSError as error:
        way_out = f"{error.strerror}; give another --data-dir"
        raise ModelError(f"{name!r} cannot be kept in {target.parent}: {way_out}", code="model_not_saved") from error
    return find_gguf(name, models_dir)


def find_gguf(name_or_path: str, models_dir: Path) -> GgufModel:
    """Find a language model: of an added one the card is read, of another file the header.

    Args:
        name_or_path: Name of an added model, or a path, which ends in ``.gguf`` or has a separator.
        models_dir: Folder of the added models; it need not exist.

    Returns:
        The model, not hashed.

    Raises:
        ModelError: ``model_missing`` if there is no such model, ``model_card`` if its card is damaged; of a path as `read_header`.
    """
    path = Path(name_or_path)
    if path.suffix.lower() == ".gguf" or path.name != name_or_path:
        header = read_header(path)
        stat = path.stat()
        fingerprint = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()
        name, source = (one_line(os.fsencode(part)) for part in (path.stem, path.name))
        return GgufModel(name, source, fingerprint, stat.st_size, header, path)
    names = gguf_names(models_dir)
    if name_or_path not in names:
        raise ModelError(
            f"language model {name_or_path!r} is not in {models_dir / GGUF_DIR}; there are: {', '.join(names) or 'none'}; "
            "add one with: rag models add FILE.gguf --name NAME",
            code="model_missing",
        )
    return _read_card(models_dir / GGUF_DIR / name_or_path)


def gguf_names(models_dir: Path) -> tuple[str, ...]:
    """Names of the added language models, ascending; what was not finished begins with a dot and is left out."""
    folders = (card.parent.name for card in (models_dir / GGUF_DIR).glob(f"*/{CARD_NAME}"))
    return tuple(sorted(name for name in folders if not name.startswith(".")))


def list_gguf(models_dir: Path) -> tuple[GgufModel, ...]:
    """The added language models by name, ascending; a damaged card is a ModelError, not a shorter list."""
    return tuple(find_gguf(name, models_dir) for name in gguf_names(models_dir))


def verify_gguf(model: GgufModel) -> None:
    """Check that the file of a model is the one that was added: header, size and SHA-256.

    Args:
        model: As found by name.

    Raises:
        ModelError: As `read_header`; ``model_altered`` if size or hash differ, which they always do of a model found by its path.
    """
    read_header(model.path)
    found = (model.path.stat().st_size, sha256_of(model.path))
    if found != (model.size_bytes, model.fingerprint):
        raise ModelError(
            f"language model file {model.path} is altered: {found[0]:,} bytes, SHA-256 {found[1]}, expected {model.size_bytes:,} bytes, "
            f"{model.fingerprint}; add it again with --replace",
            code="model_altered",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_card(folder: Path) -> GgufModel:
    """An added model, from its folder."""
    path = folder / CARD_NAME
    way_out = f"add the model again with: rag models add FILE.gguf --name {folder.name} --replace"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model card {path} cannot be read: {error}; {way_out}", code="model_card") from error
    whole = _is_of(card, _CARD_KINDS) and _is_of(card["header"], get_type_hints(GgufHeader))
    if not whole or (card["format"], card["name"]) != (_CARD_FORMAT, folder.name):
        allowed = f"format {_CARD_FORMAT}, the name {folder.name!r} and the keys of this version"
        raise ModelError(f"model card {path} was edited or is of another version; allowed: {allowed}; {way_out}", code="model_card")
    if not (file := folder / _FILE_NAME).is_file():
        raise ModelError(f"language model file {file} is missing; {way_out}", code="model_missing")
    return GgufModel(card["name"], card["source"], card["sha256"], card["size_bytes"], GgufHeader(**card["header"]), file)


def _is_of(value: object, kinds: dict[str, type]) -> bool:
    return isinstance(value, dict) and {key: type(item) for key, item in value.items()} == kinds
