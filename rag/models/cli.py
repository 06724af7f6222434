"""`rag models list | add | verify`: parse, call, print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rag.errors import RagError
from rag.models.registry import Model, find_model, list_models, verify_model
from rag.settings import Settings
from rag.usage import Parser


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
        case "add":
            _add(arguments, models_dir)
        case _:
            return _verify(arguments, models_dir)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="rag models",
        description="Embedding models on this machine; nothing is downloaded.",
        epilog="Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|add|verify")
    listing = commands.add_parser("list", help="models that the setting embedder.model can name")
    verify = commands.add_parser("verify", help="check hashes and canonical vectors")
    verify.add_argument("names", nargs="*", metavar="NAME", help="models to check; all when none is given")
    add = commands.add_parser("add", help="export, quantise and compare a sentence-transformers model (extra [export])")
    add.add_argument("source", metavar="SOURCE", help="folder of the model, or installed package that carries one")
    add.add_argument("--name", required=True, help="name of the new model: a-z 0-9 . _ -")
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
    models = list_models(models_dir)
    if arguments.json:
        _print_json({"models": [_summary(model) for model in models]})
        return
    for model in models:
        card = model.card
        origin = "shipped" if model.shipped else "added"
        sys.stdout.write(
            f"{card.name}  {origin}  {card.dim} dims  {card.max_tokens} tokens  {_mb(model)} MB  {card.licence}  {card.source}\n"
        )


def _add(arguments: argparse.Namespace, models_dir: Path) -> None:
    from rag.models.export import AddOptions, add_model

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


def _verify(arguments: argparse.Namespace, models_dir: Path) -> int:
    """Check every named model and go on after a failure, so that one run tells all."""
    names = arguments.names or [model.card.name for model in list_models(models_dir)]
    results: list[dict[str, object]] = []
    for name in names:
        try:
            results.append({"name": name, "ok": True} | dataclasses.asdict(verify_model(find_model(name, models_dir))))
        except RagError as error:
            results.append({"name": name, "ok": False, "code": error.code, "message": str(error)})
    if arguments.json:
        _print_json({"models": results})
    else:
        for result in results:
            said = (
                f"as measured (largest deviation {result['max_deviation']:.5f})" if result["ok"] else f"FAILED: {result['message']}"
            )
            sys.stdout.write(f"{result['name']}  {said}\n")
    return 0 if all(result["ok"] for result in results) else 1


def _summary(model: Model) -> dict[str, object]:
    """The card as JSON, without the golden data, with where the model lies."""
    summary = {"id": model.card.id} | dataclasses.asdict(model.card)
    for key in ("format", "canonical", "canonical_tolerance"):
        del summary[key]
    return summary | {"shipped": model.shipped, "folder": str(model.folder), "size_bytes": model.graph_path.stat().st_size}


def _mb(model: Model) -> str:
    return f"{model.graph_path.stat().st_size / 1e6:.1f}"


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _print_progress(line: str) -> None:
    sys.stderr.write(f"{line} ...\n")
