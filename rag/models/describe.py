"""MODEL_CARD.md and NOTICE: the card of a model for people."""

from __future__ import annotations

from rag.models.card import ModelCard, Parity


def model_card_text(card: ModelCard) -> str:
    """Write the model card as Markdown.

    Args:
        card: The machine-readable card; every figure comes from there.

    Returns:
        Markdown, ending in a line end.
    """
    cost = card.parity.cost
    return f"""# {card.name}

Turns a text into a unit vector of {card.dim} components, for search by cosine, in the languages of its source.
Made by `rag models add` from `{card.source}`; nothing was trained.

| | |
|---|---|
| id | `{card.id}` |
| source | {card.source} |
| original weights | `{card.revision}` |
| licence | {card.licence} |
| reads | {card.max_tokens} tokens, special tokens included; what lies behind is ignored |
| pooling | {card.pooling}, then length 1, both in the graph |
| prompts | document {card.document_prompt!r}, query {card.query_prompt!r} |
| recipe {card.recipe_version} | {card.recipe} |
| SHA-256 of model.onnx | `{card.model_sha256}` |
| SHA-256 of tokenizer.json | `{card.tokenizer_sha256}` |

## What the quantisation changed

Cosine of the int8 vectors to those of the fp32 original in PyTorch, {card.parity.n_texts} texts: mean \
{card.parity.cosine_mean:.4f}, smallest {card.parity.cosine_min:.4f}.

{_quality_table(card.parity)}

CPU milliseconds, one thread, batch 1, medians of interleaved runs, on {cost.machine}:

| | tokens | fp32 | int8 |
|---|---|---|---|
| document | {cost.document_tokens:.0f} | {cost.document_fp32_ms:.1f} | {cost.document_int8_ms:.1f} |
| query | {cost.query_tokens:.0f} | {cost.query_fp32_ms:.1f} | {cost.query_int8_ms:.1f} |

## Limits

- int8 arithmetic is not the same on every processor. Where VNNI is missing (AVX2 only), sums of 8-bit products saturate in
  rare cases. Emulated for all-minilm-l6-v2-int8 on 24 texts: one sum in 56,000 saturates, and the vectors have a cosine of
  0.993 to those with VNNI and of 0.993 to fp32 (0.995 with VNNI). So do not mix vectors of both kinds where bits matter;
  `rag models verify` shows whether a machine stays within the tolerance.
- The biases of the source and of its training data are unchanged; see its own model card.

## Notice

{card.notice}
"""


def notice_text(card: ModelCard) -> str:
    """Write the attribution that goes with every copy of the model.

    Args:
        card: The card.

    Returns:
        Plain text, ending in a line end.
    """
    return f"""{card.name}

{card.notice}

Source:  {card.source}
Weights: {card.revision}
Licence: {card.licence}
Changes: {card.recipe}. No weights were trained.
"""


def _quality_table(parity: Parity) -> str:
    if not parity.quality:
        return "nDCG@10: not measured (no data set was given)."
    rows = [
        f"| {entry.data} | {entry.n_documents:,} | {entry.n_queries:,} | {entry.ndcg10_fp32:.4f} | {entry.ndcg10_int8:.4f} |"
        for entry in parity.quality
    ]
    return "\n".join(["| data set | documents | queries | nDCG@10 fp32 | nDCG@10 int8 |", "|---|---|---|---|---|", *rows])
