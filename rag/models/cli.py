"""`rag models list | add | verify`: parse, call, print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, assert_never

from rag.errors import InputError, ModelError, RagError
from rag.models.card import CARD_NAME
from rag.models.gguf import GGUF_DIR, GgufModel, add_gguf, find_gguf, gguf_names, list_gguf, verify_gguf
from rag.models.registry import SHIPPED_DIR, Model, find_model, list_models, verify_model
from rag.settings import Settings
from rag.usage import Parser

Kind = Literal["embedder", "language"]
# Options of `add` that mean nothing to a GGUF file, which is kept as it is.
_EXPORT_OPTIONS = "data origin licence notice document_prompt query_prompt max_tokens force".split()


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run one sub-command.

    Args:
        argv: Arguments behind ``rag models``.
        settings: Of these, ``data_dir``; added models lie in its folder ``models``.

    Returns:
        0 done, 1 failed, 2 wrong usage.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed help
        return int(stop.code or 0)
    models_dir = settings.data_dir / "models"
    match arguments.command:
        case "list":
            _list(arguments, models_dir)
        case "add" if Path(arguments.source).suffix.lower() == ".gguf":
            _add_gguf(arguments, models_dir)
        case "add":
            _add(arguments, models_dir)
        case _:
            return _verify(arguments, models_dir)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="rag models",
        description="Embedding and language models on this machine; nothing is downloaded.",
        epilog="Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|add|verify")
    listing = commands.add_parser("list", help="models that the settings embedder.model and language_model.model can name")
    verify = commands.add_parser("verify", help="check hashes, and of embedding models canonical vectors")
    verify.add_argument("names", nargs="*", metavar="NAME", help="models to check; all when none is given")
    add = commands.add_parser("add", help="keep a GGUF file, or export a sentence-transformers model (extra [export])")
    add.add_argument("source", metavar="SOURCE", help="FILE.gguf; or folder of an embedding model, or installed package with one")
    add.add_argument("--name", help="name of the new model: a-z 0-9 . _ -; default for a GGUF file: its own")
    add.add_argument(
        "--data", type=Path, action="append", default=[], metavar="DIR", help="data set in BEIR layout: compare nDCG@10"
    )
    add.add_argument("--origin", default="", help="upstream name for the model card")
    add.add_argument("--licence", default="", help="SPDX name; default: what the README.md of the source says")
    add.add_argument("--notice", default="", help="attribution text")
    add.add_argument("--document-prompt", help="set before every document; default: the prompt of the source")
    add.add_argument("--query-prompt", help="set before every query; default: the prompt of the source")
    add.add_argument("--max-tokens", type=int, default=0, help="tokens to read; default: as many as the source says")
    add.add_argument("--into", type=Path, help="folder to put it in; default: DATA_DIR/models")
    add.add_argument("--force", action="store_true", help="keep it even when it is far from the original")
    add.add_argument("--replace", action="store_true", help="replace an added model of that name")
    for command in (listing, verify, add):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _list(arguments: argparse.Namespace, models_dir: Path) -> None:
    models, language_models = list_models(models_dir), list_gguf(models_dir)
    if arguments.json:
        _print_json({"models": [_summary(model) for model in models] + [_gguf_summary(model) for model in language_models]})
        return
    for model in models:
        card = model.card
        origin = "shipped" if model.shipped else "added"
        sys.stdout.write(
            f"{card.name}  {origin}  {card.dim} dims  {card.max_tokens} tokens  {_mb(model)} MB  {card.licence}  {card.source}\n"
        )
    for language_model in language_models:
        sys.stdout.write(f"{language_model.name}  language  {_gguf_line(language_model)}  {language_model.source}\n")


def _add(arguments: argparse.Namespace, models_dir: Path) -> None:
    from rag.models.export import AddOptions, add_model

    if arguments.name is None:
        raise InputError("an embedding model needs --name; see 'rag models add --help'", code="usage")
    if arguments.name == GGUF_DIR:
        raise InputError(f"--name {GGUF_DIR} is the folder of the language models; give another --name", code="usage")
    options = AddOptions(
        origin=arguments.origin,
        licence=arguments.licence,
        notice=arguments.notice,
        document_prompt=arguments.document_prompt,
        query_prompt=arguments.query_prompt,
        max_tokens=arguments.max_tokens,
        data=tuple(arguments.data),
        force=arguments.force,
        replace=arguments.replace,
    )
    model = add_model(arguments.source, arguments.name, arguments.into or models_dir, options, _print_progress)
    if arguments.json:
        _print_json(_summary(model))
        return
    parity = model.card.parity
    sys.stdout.write(f"added {model.card.id}, {_mb(model)} MB, cosine to the original {parity.cosine_mean:.4f}\n")
    for entry in parity.quality:
        sys.stdout.write(f"nDCG@10 on {entry.data}: fp32 {entry.ndcg10_fp32:.4f}, int8 {entry.ndcg10_int8:.4f}\n")
    sys.stdout.write(
        f"{model.licence_notice}\nUse it: set model = {model.card.name!r} in [embedder] of ragwatt.toml, then ingest again.\n"
    )


def _add_gguf(arguments: argparse.Namespace, models_dir: Path) -> None:
    if given := [name for name in _EXPORT_OPTIONS if getattr(arguments, name)]:
        option = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{option} is for embedding models; allowed with a GGUF file: --name, --into, --replace", code="usage")
    source = Path(arguments.source)
    name = _fit_name(source.stem) if arguments.name is None else arguments.name
    model = add_gguf(source, name, arguments.into or models_dir, replace=arguments.replace)
    if arguments.json:
        _print_json(_gguf_summary(model))
        return
    sys.stdout.write(
        f"added {model.id}: {_gguf_line(model)}\n"
        f'Use it: write kind = "gguf" and model = "{model.name}" under [language_model] in ragwatt.toml (extra [local]).\n'
    )


def _fit_name(stem: str) -> str:
    """The name of a file as the name of a model; `check_name` refuses it where nothing is left."""
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower())[:64].strip("._-")


def _verify(arguments: argparse.Namespace, models_dir: Path) -> int:
    """Check every named model and go on after a failure, so that one run tells all."""
    results: list[dict[str, object]] = []
    for kind, name in _named(arguments.names, models_dir):
        result: dict[str, object] = {"name": name, "kind": kind}
        try:
            results.append(result | {"ok": True} | _verified(kind, name, models_dir))
        except RagError as error:
            results.append(result | {"ok": False, "code": error.code, "message": str(error)})
    if arguments.json:
        _print_json({"models": results})
    else:
        for result in results:
            sys.stdout.write(f"{result['name']}  {_said(result)}\n")
    return 0 if all(result["ok"] for result in results) else 1


def _named(names: Sequence[str], models_dir: Path) -> list[tuple[Kind, str]]:
    """The models to verify. A name may be of one model of each kind; one of neither counts as that of an embedder."""
    language = gguf_names(models_dir)
    if not names:
        return [("embedder", model.card.name) for model in list_models(models_dir)] + [("language", name) for name in language]
    found: list[tuple[Kind, str]] = []
    for name in names:
        if name not in language or _is_embedder(name, models_dir):
            found.append(("embedder", name))
        if name in language:
            found.append(("language", name))
    return found


def _is_embedder(name: str, models_dir: Path) -> bool:
    return any((parent / name / CARD_NAME).is_file() for parent in (SHIPPED_DIR, models_dir))


def _verified(kind: Kind, name: str, models_dir: Path) -> dict[str, object]:
    match kind:
        case "embedder":
            try:
                return dataclasses.asdict(verify_model(find_model(name, models_dir)))
            except ModelError as error:
                if _is_embedder(name, models_dir):
                    raise
                language = ", ".join(gguf_names(models_dir)) or "none"
                raise ModelError(f"{error}; language models: {language}", code=error.code) from error
        case "language":
            model = find_gguf(name, models_dir)
            verify_gguf(model)
            return {"id": model.id}
        case _:
            assert_never(kind)


def _said(result: Mapping[str, object]) -> str:
    if not result["ok"]:
        return f"FAILED: {result['message']}"
    if result["kind"] == "language":
        return "as added"
    return f"as measured (largest deviation {result['max_deviation']:.5f})"


def _summary(model: Model) -> dict[str, object]:
    """The card as JSON, without the golden data, with where the model lies."""
    summary = {"id": model.card.id, "kind": "embedder"} | dataclasses.asdict(model.card)
    for key in ("format", "canonical", "canonical_tolerance"):
        del summary[key]
    return summary | {"shipped": model.shipped, "folder": str(model.folder), "size_bytes": model.graph_path.stat().st_size}


def _gguf_summary(model: GgufModel) -> dict[str, object]:
    """The card as JSON, with where the model lies; ``title`` is the name that the file gives itself."""
    header = dataclasses.asdict(model.header)
    about = {"id": model.id, "kind": "language", "name": model.name, "title": header.pop("name"), "source": model.source}
    lies = {"sha256": model.fingerprint, "shipped": False, "folder": str(model.path.parent), "size_bytes": model.size_bytes}
    return about | header | lies


def _gguf_line(model: GgufModel) -> str:
    header = model.header
    about = f"{header.architecture} {header.quantisation}  {header.n_parameters / 1e6:,.1f} M parameters"
    return f"{about}  {header.context_length} tokens  {model.size_bytes / 1e6:.1f} MB  {header.licence}"


def _mb(model: Model) -> str:
    return f"{model.graph_path.stat().st_size / 1e6:.1f}"


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _print_progress(line: str) -> None:
    sys.stderr.write(f"{line} ...\n")
