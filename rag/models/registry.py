"""Find, list and verify model folders: those shipped in this package, then those that the user added.

A model is a folder of its name with ``model.onnx``, ``tokenizer.json``, ``card.json`` and ``MODEL_CARD.md`` for people.
Finding one reads its card only; hashing 24 MB on every start would cost more CPU than a search, so that is left to
`verify_model`.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rag.errors import InputError, ModelError
from rag.models.card import CARD_NAME, ModelCard, read_card
from rag.models.session import ModelSession, ModelTokenizer

SHIPPED_DIR = Path(__file__).parent
GRAPH_NAME = "model.onnx"
TOKENIZER_NAME = "tokenizer.json"
# One folder name on every file system: no separator, no leading dot, nothing that a shell or Windows treats specially.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Model:
    """A model folder.

    Attributes:
        card: What it says of itself.
        folder: Where it lies.
        shipped: Whether it came with the package.
    """

    card: ModelCard
    folder: Path
    shipped: bool

    @property
    def graph_path(self) -> Path:
        """The ONNX file."""
        return self.folder / GRAPH_NAME

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer file."""
        return self.folder / TOKENIZER_NAME

    @property
    def licence_notice(self) -> str:
        """Licence and attribution in one text, to show wherever the model is shown."""
        return f"{self.card.name}: licence {self.card.licence}. {self.card.notice}".strip()


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked and found right.

    Attributes:
        id: Of the model.
        n_files: Files whose SHA-256 is that on the card.
        n_canonical: Canonical texts embedded.
        max_deviation: Largest difference of a component to the card.
        tolerance: Largest difference allowed.
        cpu_s: CPU seconds of the check.
    """

    id: str
    n_files: int
    n_canonical: int
    max_deviation: float
    tolerance: float
    cpu_s: float


def check_name(name: str) -> str:
    """Refuse a name that is not a plain folder name.

    Args:
        name: Model name as the user gave it.

    Returns:
        The name.

    Raises:
        InputError: If it is anything but 1 to 64 of a-z, 0-9, ``.``, ``_`` and ``-``, begun and ended by a letter or
            digit.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"model name {name!r:.80} is not allowed; use 1 to 64 of a-z 0-9 . _ -, first and last a letter or digit")
    return name


def list_models(models_dir: Path) -> tuple[Model, ...]:
    """List what can be named in ``embedder.model``.

    Args:
        models_dir: Folder of the added models; it need not exist.

    Returns:
        Shipped models by name, then added ones by name. A damaged card is a ModelError, not a shorter list.
    """
    shipped = _names(SHIPPED_DIR)
    added = [name for name in _names(models_dir) if name not in shipped]
    return tuple(find_model(name, models_dir) for name in shipped + added)


def find_model(name: str, models_dir: Path) -> Model:
    """Find a model by name and read its card; its files are neither hashed nor loaded.

    Args:
        name: As listed.
        models_dir: Folder of the added models; it need not exist. A shipped model of the same name comes first.

    Returns:
        The model.

    Raises:
        ModelError: If there is no such model, its card is damaged or belongs to another name, or a file is missing; a
            name that `check_name` refuses is an InputError.
    """
    check_name(name)
    for parent, shipped in ((SHIPPED_DIR, True), (models_dir, False)):
        folder = parent / name
        if (folder / CARD_NAME).is_file():
            return _read_model(folder, shipped=shipped)
    known = ", ".join(sorted({*_names(SHIPPED_DIR), *_names(models_dir)})) or "none"
    raise ModelError(f"model {name!r} is neither shipped nor in {models_dir}; there are: {known}; add one with: rag models add")


def verify_model(model: Model) -> Verification:
    """Check that a model is the one that was measured: the hashes of its files, and its vectors of the canonical texts.

    Args:
        model: As found.

    Returns:
        What was checked.

    Raises:
        ModelError: If a file is altered, or this machine computes vectors outside the tolerance.
    """
    began = time.process_time()
    card = model.card
    hashes = ((model.graph_path, card.model_sha256), (model.tokenizer_path, card.tokenizer_sha256))
    for path, expected in hashes:
        found = sha256_of(path)
        if found != expected:
            raise ModelError(f"model file {path} is altered: SHA-256 {found}, expected {expected}; {_way_out(model)}")
    deviation = max(_deviations(model), default=0.0)
    if not deviation <= card.canonical_tolerance:
        raise ModelError(
            f"model {card.name} computes other vectors here than were measured: a canonical "
            f"component differs by {deviation:.4f}, allowed {card.canonical_tolerance}; check the versions of onnxruntime "
            f"and tokenizers, then {_way_out(model)}"
        )
    cpu_s = time.process_time() - began
    return Verification(card.id, len(hashes), len(card.canonical), deviation, card.canonical_tolerance, cpu_s)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}; add the model again") from error


def _names(parent: Path) -> list[str]:
    """Folders with a card, ascending; a half-written folder of `rag models add` begins with a dot and is left out."""
    if not parent.is_dir():
        return []
    return sorted(path.parent.name for path in parent.glob(f"*/{CARD_NAME}") if _NAME.fullmatch(path.parent.name))


def _read_model(folder: Path, *, shipped: bool) -> Model:
    model = Model(read_card(folder / CARD_NAME), folder, shipped)
    if model.card.name != folder.name:
        raise ModelError(f"model card {folder / CARD_NAME} is of {model.card.name!r}, not of {folder.name!r}; rename the folder")
    for path in (model.graph_path, model.tokenizer_path):
        if not path.is_file():
            raise ModelError(f"model file {path} is missing; {_way_out(model)}")
    return model


def _deviations(model: Model) -> list[float]:
    """Largest component difference of each canonical text; infinite where the lengths do not match."""
    tokenizer = ModelTokenizer(model.tokenizer_path)
    session = ModelSession(model.graph_path, model.card.dim)
    found = []
    for canonical in model.card.canonical:
        vector = session.run(tokenizer.ids(canonical.text, model.card.max_tokens))
        expected = np.array(canonical.values, dtype=np.float32)
        same_length = 0 < len(expected) <= len(vector)
        found.append(float(np.abs(vector[: len(expected)] - expected).max()) if same_length else float("inf"))
    return found


def _way_out(model: Model) -> str:
    return "reinstall ragwatt" if model.shipped else f"add it again with: rag models add ... --name {model.card.name} --replace"
