"""Versioned prompts: fixed text first, then the documents, the question last, so that a prefix cache keeps what does not change.

A template is a TOML file; white space around its texts does not count:

    id = "mine"                                           # small letters, digits and -
    version = 1
    style = "chat"                                        # or "few_shot"
    system = "Fixed rules."                               # few_shot: header, the worked examples
    user = "{documents} ... {question}"                   # few_shot: body, up to where the answer begins

Documents stand between two marks drawn for each request, so that none can close its own fence; what has the shape of a control
token is broken up in them and in the question.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from rag.errors import ConfigError, InputError
from rag.generate.model import Message, Prompt

Style = Literal["few_shot", "chat"]
SHIPPED = ("few-shot", "chat")
# What the shipped chat template tells the model to write when the documents do not answer.
NO_ANSWER = "NO ANSWER"
_FOLDER = Path(__file__).parent / "templates"
# Part of every hash: to be raised when `render` or `escape` sends something else for the same template.
_LAYOUT = 1
_N_HASH_CHARS = 12
# 32 bits, 8 characters: a document cannot guess them within one request, and small models spend a token on nearly each character.
_N_FENCE_BYTES = 4
_ID = re.compile("[a-z0-9][a-z0-9-]*")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# By shape, because a list of names would age: <|im_end|> and DeepSeek's wide bars, <s>, </s>, <start_of_turn>, <<SYS>>, <seed:bos>,
# <turn|>; [INST], [/INST], [gMASK]. "### Instruction:" and "User:" are words to every tokenizer and good Markdown: they are left alone.
_CONTROL = re.compile(r"<(?=[|｜]\S|/?[\w:.-]+[|｜]?>)|\[(?=/?[a-z]?[A-Z_]{3,}\])")


@dataclass(frozen=True, slots=True)
class Passage:
    """What a prompt shows of one document.

    Attributes:
        number: Citation index, from 1.
        title: May be empty.
        text: Sentences or a whole passage.
    """

    number: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Template:
    """The text around documents and question.

    Attributes:
        id: Small letters, digits and hyphens.
        version: From 1.
        style: ``few_shot`` is continued up to the end of a line, ``chat`` is answered in turns.
        fixed: The same for every request: worked examples, or the system message.
        body: With ``{documents}`` once, then ``{question}`` once.
    """

    id: str
    version: int
    style: Style
    fixed: str
    body: str

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all that decides what is sent; id and version do not."""
        content = json.dumps([_LAYOUT, self.style, self.fixed, self.body])
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:_N_HASH_CHARS]

    @property
    def name(self) -> str:
        """For answers and cache keys, for example ``few-shot@1#3fa9c2d1e0b7``."""
        return f"{self.id}@{self.version}#{self.hash}"


def load_template(name_or_path: str) -> Template:
    """Read a template.

    Args:
        name_or_path: ``few-shot``, ``chat``, or the path of a TOML file.

    Returns:
        The template, its texts trimmed.

    Raises:
        ConfigError: If the file cannot be read or is no template; its code is ``template``.
    """
    path = _FOLDER / f"{name_or_path}.toml" if name_or_path in SHIPPED else Path(name_or_path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _refusal(name_or_path, f"cannot be read: {reason}", f"{', '.join(SHIPPED)}, or the path of a TOML file") from error
    return _template(name_or_path, values)


def new_fence(question: str, passages: Sequence[Passage], draw: Callable[[int], str] = secrets.token_hex) -> str:
    """Draw the mark of one request.

    Args:
        question: As it will be rendered.
        passages: As they will be rendered.
        draw: Random text of so many bytes; a test passes its own.

    Returns:
        8 hexadecimal digits that occur in none of them.
    """
    while _occurs(fence := draw(_N_FENCE_BYTES), question, passages):
        pass
    return fence


def escape(text: str) -> str:
    """Break up what has the shape of a control token, by a space after its first character.

    Nothing is removed, so that no nesting puts a token together. Applying it twice changes nothing more.

    Args:
        text: Any text.

    Returns:
        The text as a prompt shows it; most texts stay as they are.

    Example:
        >>> escape("a <|im_<|im_end|>end|> [INST] b[0] <= 1")
        'a < |im_< |im_end|>end|> [ INST] b[0] <= 1'
    """
    return _CONTROL.sub(r"\g<0> ", text)


def render(template: Template, question: str, passages: Sequence[Passage], fence: str) -> Prompt:
    """Put documents and question into a template.

    ``few_shot`` shows the texts alone, and texts and question on one line each, so that neither can begin a line of its own;
    ``chat`` shows number, title and text.

    Args:
        template: From `load_template`.
        question: As asked.
        passages: In the order in which they are shown.
        fence: From `new_fence`, for this request only.

    Returns:
        The prompt; two prompts that differ in the fence alone differ there alone.

    Raises:
        InputError: If the fence occurs in a document or the question; its code is ``fence``.
    """
    if _occurs(fence, question, passages):
        raise InputError(
            f"fence {fence!r} occurs in a document or the question; allowed: one that does not, see new_fence", code="fence"
        )
    match template.style:
        case "few_shot":
            documents = f"{fence} {escape(_one_line(' '.join(passage.text for passage in passages)))} {fence}"
            body = _filled(template.body, documents, escape(_one_line(question)))
            return Prompt(template.name, text=f"{template.fixed}\n\n{body}", stop=("\n",))
        case "chat":
            shown = escape("\n\n".join(_numbered(passage) for passage in passages))
            documents = f"BEGIN DOCUMENTS {fence}\n{shown}\nEND DOCUMENTS {fence}"
            body = _filled(template.body, documents, escape(question.strip()))
            return Prompt(template.name, messages=(Message("system", template.fixed), Message("user", body)))
        case _:
            assert_never(template.style)


def _template(name: str, values: dict[str, object]) -> Template:
    """The values of a file as a template, or a ConfigError."""
    style: Style
    match values.get("style"):
        case "few_shot":
            style, fixed_key, body_key = "few_shot", "header", "body"
        case "chat":
            style, fixed_key, body_key = "chat", "system", "user"
        case other:
            raise _refusal(name, f"style is {other!r}", "few_shot, chat")
    keys = ["id", "version", "style", fixed_key, body_key]
    if set(values) != set(keys):
        raise _refusal(name, f"has the keys {', '.join(values)}", f"exactly {', '.join(keys)} with the style {style}")
    template_id, version = values["id"], values["version"]
    if not isinstance(template_id, str) or not _ID.fullmatch(template_id):
        raise _refusal(name, f"id is {template_id!r}", "small letters, digits and -")
    if type(version) is not int or version < 1:
        raise _refusal(name, f"version is {version!r}", "a whole number from 1")
    fixed = _text(name, values, fixed_key, [])
    body = _text(name, values, body_key, ["documents", "question"])
    return Template(template_id, version, style, fixed, body)


def _text(name: str, values: dict[str, object], key: str, allowed: list[str]) -> str:
    """A text of a template, trimmed: a prompt that ends in white space halves F1 (facts: slm)."""
    text = values[key]
    if not isinstance(text, str) or not text.strip():
        raise _refusal(name, f"{key} is {text!r}", "a text that is not empty")
    found = _PLACEHOLDER.findall(text)
    if found != allowed:
        raise _refusal(name, f"{key} has {_listed(found)}", f"{_listed(allowed)}, in this order and once each")
    return text.strip()


def _listed(placeholders: list[str]) -> str:
    return ", ".join(f"{{{placeholder}}}" for placeholder in placeholders) or "no placeholder"


def _refusal(name: str, got: str, allowed: str) -> ConfigError:
    return ConfigError(f"template {name!r} {got}; allowed: {allowed}", code="template")


def _occurs(fence: str, question: str, passages: Sequence[Passage]) -> bool:
    return fence in question or any(fence in passage.title or fence in passage.text for passage in passages)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _numbered(passage: Passage) -> str:
    title = _one_line(passage.title)
    return f"[{passage.number}] {title}\n{passage.text.strip()}" if title else f"[{passage.number}] {passage.text.strip()}"


def _filled(body: str, documents: str, question: str) -> str:
    """The body with its placeholders replaced; those that stand in a document or the question stay words."""
    before, _, rest = body.partition("{documents}")
    between, _, after = rest.partition("{question}")
    return f"{before}{documents}{between}{question}{after}"
