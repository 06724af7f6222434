"""Passages that speak to a language model instead of to people: found by a short list of rules, flagged, never dropped.

The rules name the forms that planted instructions usually take; whoever avoids these forms is not found, so a passage without a flag
is not thereby safe. A false alarm costs a passage some trust and nothing else. Tests measure both, on texts of either kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# A rule looks at so many characters on both sides of a cue; no rule reaches further.
_REACH = 200
_FOLD = 0x20202020  # puts four ASCII letters in lower case at once; what else it changes, it changes in text and cue alike
# A table of as many bits as fit the second-level cache; about one place in 500 of ordinary text is looked at twice.
_HASH_BITS = 16
_HASH_FACTOR = 0x9E3779B1  # 2^32 over the golden ratio, the usual multiplier


@dataclass(frozen=True, slots=True)
class _Rule:
    """A form of instruction.

    Attributes:
        reason: What it does, for people.
        cues: At least four bytes each, of which the first four count; one of them stands within reach of whatever the pattern finds.
        pattern: Applied to lower-case text.
        sign: Stands in every text in which the pattern is found, and is looked for first where the cues are common words: every form of it
            begins with a letter, a rare one if it can, so that `re` skips from one such letter to the next.
    """

    reason: str
    cues: tuple[str, ...]
    pattern: re.Pattern[str]
    sign: re.Pattern[str] | None = None


def _rule(reason: str, cues: str, *forms: str, sign: str = "") -> _Rule:
    flags = re.VERBOSE | re.MULTILINE
    return _Rule(reason, tuple(cues.split("~")), re.compile("|".join(forms), flags), re.compile(sign, flags) if sign else None)


def _yours(stem: str) -> str:
    """Behind the beginning of a word for an answer: one of the words that stand before it in the forms."""
    words = ("every", "each", "all", "any")
    first = "|".join(rf"(?<=(?:in|to|rt|nd|sh|[ntdh]s)\s{word}\s{stem})|(?<=\bend\sof\s{word}\s{stem})" for word in words)
    return rf"(?<=\s{stem})(?:{first}|(?<=(?:in|rt|nd|sh|[ntdh]s|ry|ch|ll|ny|of)\syour\s{stem})|(?<=[yhl]\sof\s{stem}))"


_MODEL = r"(?:ai|llms?|(?:large\s)?language\smodels?|chat\s?bots?|assistants?|chatgpt|claude|gemini|copilot|bots?)"
_OLD = r"(?:previous|prior|above|earlier|preceding|foregoing|former|existing|initial|original|system|developer|safety)"
_ORDERS = r"(?:instruction|prompt|command|direction|guideline|rule|order|directive|message|text|context|input)s?"
_UNDO = (
    r"(?:ignor\w+|disregard\w*|forget|overrid\w+|bypass"
    r"|(?:do\snot|don't|never|not)\s(?:follow|obey)|stop\sfollowing|pay\sno\sattention\sto)"
)
_REPLY = r"(?:answers?|repl(?:y|ies)|responses?|summar(?:y|ies)|output)"
_SAY = (
    r"(?:say|write|reply|respond|answer|recommend|print|output"
    r"|state|mention|give\sas\s(?:the|an)\sanswer|tell\s(?:them|the\s(?:user|reader)))"
)
_SECRETS = (
    r"(?:conversation|chat|history|passwords?|credentials?|secrets?|(?:api|secret)\skeys?|tokens|context|prompt|user(?:'s)?\s\w+)"
)

# Signs of the rules whose cues are common in texts about software and language models.
_SHOWN = r"\s(?:\w+\s){0,2}?(?:your|the|everything)\s"
_SHOW_SIGN = (
    rf"veal{_SHOWN}|w(?<=\bshow){_SHOWN}|p(?:rint|eat|ut|lay){_SHOWN}|k(?<=\bleak){_SHOWN}|c(?:lose|ite){_SHOWN}"
    rf"|ll\s(?:me|us){_SHOWN}|give\s(?:me|us){_SHOWN}|what\s(?:is|are)\syour\s"
)
_TOLD = r"(?:t?ing)?\s(?:the\s|any\s)?(?:user|reader|human)"
_KEEP_SIGN = (
    rf"l(?:l|et|ert){_TOLD}|form{_TOLD}|warn{_TOLD}|y(?<=\bnotify){_TOLD}|m(?<=[rt]\sm)ention\s|veal\s|close\s|knowledge\s"
    r"|keep\s(?:this|it|these)\b|de(?<=\bhide)\s(?:this|it|these)\b|ceal\s(?:this|it|these)\b"
)
_TO_MODEL = (
    r"(?:s{0,2}\s*[:,;\u2014]|s{0,2}\s(?:(?:model|system|agent|reader|reviewer)s?\s*[:,;\u2014]|must\s|shall\s|has\sto\s|is\sto\s)"
    r"|s{0,2}(?:\s\w+){1,5},\syou\s)"
)
_MODEL_SIGN = (
    rf"i(?<=\bai){_TO_MODEL}|m(?<=\bllm){_TO_MODEL}|guage\smodel{_TO_MODEL}|bot{_TO_MODEL}|sistant{_TO_MODEL}|chatgpt{_TO_MODEL}"
    rf"|claude{_TO_MODEL}|gemini{_TO_MODEL}|copilot{_TO_MODEL}|y(?<=\bsy)stems\s*[:,;\u2014]|y(?<=\bany)\s{_MODEL}"
    rf"|y(?<=\bevery)\s{_MODEL}|l(?<=\ball)\s{_MODEL}|f(?<=\bif)\syou(?:\sare|'re)\s|what\sshould\sthe\s"
)
_ONLY = r"\s(?:only|exactly|nothing|just)\s"
_WITH = r"\swith\s(?:only\s)?(?:[\"“«]|the\s[wpst]|ok\b)"
_ASKED = (
    r"\s(?:someone|somebody|anyone|anybody|the\s(?:user|reader)|a\suser|people|they|asked|you\b|the\s\w+\sis\smentioned)"
    rf"[^.!?:]{{0,110}}[,:]\s(?:please\s|always\s|only\s|you\smust\s|just\s|then\s)?{_SAY}\b(?!,)"
)
_ANSWER_SIGN = (
    rf"wer(?:{_ONLY}|\s(?:every|any|all|each)\s|ed\swith\b|{_WITH})|ply(?:{_ONLY}|{_WITH}|\sto\s)|pond(?:{_ONLY}|{_WITH})"
    rf"|put{_ONLY}|y(?<=say){_ONLY}|w{_yours('answ')}er|p{_yours('rep')}l(?:y|ies)|p{_yours('resp')}onse|m{_yours('sum')}mar|p{_yours('outp')}ut"
    rf"|ways\s(?:end|begin|start|finish)\s|whatever\sthe\squestion|cite\sthis\s|when(?:ever)?{_ASKED}|f(?<=\bif){_ASKED}"
)

_RULES = (
    _rule(
        "takes back what the model was told",
        "gnore~gnorin~sregard~forget~verrid~bypass~ollow ~obey~ttention to~eak your~olate your~ructions above"
        "~ompt above~ructions are~ompt is",
        rf"\b{_UNDO}\s(?:(?:about|all|any|every|each|of|the|your|my|our|these|those|this|that|and|or)\s){{0,5}}"
        rf"(?:{_OLD}\s(?:{_OLD}\s|and\s|or\s)*{_ORDERS}\b|{_ORDERS}\s(?:above|before|so\sfar|you|that\scame|given\s(?:to\syou"
        rf"|above|before)))",
        rf"\b{_UNDO}\s(?:(?:all|about|of)\s)*(?:everything|anything|what|whatever)\s(?:that\s)?(?:you|above|before|was\ssaid"
        rf"|came|stands)\b",
        r"\b(?:ignore|disregard|forget|override|bypass|break|violate)\s(?:about\s)?your\s(?:\w+\s){0,2}(?:instructions?"
        r"|rules?|guidelines?|training|programming|prompt|restrictions?)",
        r"\b(?:ignore|disregard)\sthe\sabove(?:\s(?:text|and)\b|[.,:;!])",
        rf"\b(?:instructions?|prompt)\sabove\s(?:are|is)\b|\b{_OLD}\s(?:instructions?|prompt)\s(?:are"
        rf"|is)\s(?:now\s)?(?:outdated|void|invalid|cancell?ed|revoked|no\slonger)",
    ),
    _rule(
        "gives the model a new part to play",
        "now in~now a ~now an~now the~now on~now dan~now my~now,~now;~now.~now f~now w~nceforth~nger a ~nger an"
        "~nger the~nger bound~nger restr~nger lim~pretend~act as if~act as though~act as an ~imagine ~play as~a game"
        "~new role~new task~new job~new persona~new identity~oper mode~ dan mode~ebug mode~lbreak~unrestr~uncens"
        "~no rules~no limit~no restr",
        rf"\byou(?:\sare|'re)\snow\s(?:an?\s|the\s|in\s|my\s|called\s)?(?:\w+[\s-]){{0,3}}?(?:{_MODEL}|dan|mode|persona"
        rf"|unrestricted|jailbroken|free\s(?:from|of)|without|pirate)\b",
        rf"\byou\sare\sno\slonger\s(?:an?\s|the\s)?(?:\w+\s)?(?:{_MODEL}|bound|restricted|limited\sby)",
        r"\byou\sare\san?\s\w+\snow[;,:.][^.\n]{0,60}\b(?:speak|obey|answer|reply)",
        r"\b(?:from\snow\son|henceforth)[,:]?\s(?:you\s(?:will\s|must\s|shall\s|should\s|are\s|have\sto\s)?(?:always\s"
        r"|only\s)?(?:answer|repl|respond|act|speak|say|write|behave|obey|ignore|an\b)|(?:answer|reply|respond|obey)\b)",
        r"\b(?:pretend|act\sas(?:\sif|\sthough)?|imagine|role-?play\sas)\s(?:that\s)?(?:(?:you\s(?:are|were|have|had)|to\sbe"
        r"|an?|the)\s)?(?:\w+\s){0,5}?(?:(?:no|without(?:\sany)?)\s(?:\w+\s)?(?:rules|restrictions|limits|filters"
        r"|guidelines)|unrestricted|uncensored|jailbroken)\b",
        r"\bpretend\s(?:that\s)?(?:you\sare|to\sbe)\san?\s(?:\w+\s)?(?:ai|assistant|chatbot|language\smodel|administrator)\b",
        r"\byou\sare\s[^.!?\n]{1,60}\bwho\shas\sno\s(?:rules|limits|restrictions)|\bplay\sa\sgame\b[^.!?\n]{0,40}\byou\sare\b",
        r"\byour\snew\s(?:role|task|job|persona|identity)\s(?:is|are)\b",
        r"\b(?:developer|dan|debug|god|jailbreak|unrestricted)\smode\s(?:is\s)?(?:on|enabled|activated|active)\b|\b(?:enter"
        r"|enable|activate|in)\s(?:the\s)?(?:dan|god|jailbreak|unrestricted)\smode\b",
    ),
    _rule(
        "asks for the hidden prompt",
        "rompt~ructions~above this~en rules~et rules",
        r"\b(?:reveal|show|print|repeat|output|display|leak|disclose|recite|tell\s(?:me|us)|give\s(?:me"
        r"|us))\s(?:\w+\s){0,2}?(?:your|the\s(?:hidden|secret|system|initial|original))\s(?:\w+\s){0,2}?(?:prompt"
        r"|instructions|rules)\b",
        r"\b(?:reveal|show|print|repeat|output|display)\s(?:everything|the\s(?:words|text|lines?))\sabove\sthis",
        r"\bwhat\s(?:is|are)\syour\s(?:system\s)?(?:prompt|(?:system|hidden|initial)\s(?:instructions|rules))\b",
        sign=_SHOW_SIGN,
    ),
    _rule(
        "wants something kept from the reader",
        "user~eader~ructions~ruction ~aragraph~message ",
        r"\b(?:do\snot|don't|never|must\snot|without)\s(?:ever\s)?(?:tell|inform|alert|warn|notify|let)(?:ing"
        r"|ting)?\s(?:the\s|any\s)?(?:user|reader|human)s?\b(?=[^.!?\n]{0,60}\b(?:this|these|you|instructions?|note|about"
        r"|add|include|send)\b)",
        r"\b(?:do\snot|don't|never)\s(?:mention|reveal|disclose|acknowledge)\s(?:to\sthe\s(?:user"
        r"|reader)\s)?(?:that\syou\s(?:saw|read|received)|this\s(?:instruction|note|paragraph|message)|these\sinstructions"
        r"|that\sthis\s(?:text|note|instruction|message|passage))",
        r"\b(?:keep|hide|conceal)\s(?:this|it|these)\b[^.!?\n]{0,30}\bfrom\sthe\s(?:user|reader)s?\b",
        sign=_KEEP_SIGN,
    ),
    _rule(
        "speaks to the model that reads the page",
        "ssistant~guage mod~ llm ~ llms~ llm:~llm re~llm ag~tbot~ ai ~ai model~ai system~ai agent~ai read~ai rev~ ais "
        "~tems:~tems,~hatgpt",
        rf"\b(?:attention|note|message|notice|memo|hello|hi|dear|hey|reminder)(?:,|:|\sto|\sfor)?\s(?:all\s|any\s|the\s"
        rf"|every\s|each\s|helpful\s|automatic\s|automated\s|ai\s|you,?\s)*(?:{_MODEL}|ai\s(?:models?|systems?|agents?"
        rf"|readers?|reviewers?)|systems)\s*[:,;\u2014]",
        rf"\b(?:to|for)\s(?:any|all|every)\s{_MODEL}s?\b[^.:\n]{{0,30}}:|^{_MODEL}s?\s(?:reviewers?|readers?|agents?):",
        rf"\bif\syou(?:\sare|'re)\s(?:an?\s|the\s)?(?:{_MODEL}|automated"
        rf"|automatic)\b(?:\s\w+){{0,6}}?[,:]?\s(?:\w+\s){{0,6}}?(?:say|write|give|rate|recommend|ignore|add|include|respond"
        rf"|reply|answer|print|output|mention|stop|tell|rank|approve)\b",
        rf"\bas\san?\s{_MODEL}(?:\s\w+){{0,5}},\syou\s(?:must|should|will|shall)\b|\bwhat\sshould\sthe\s{_MODEL}\s(?:say"
        rf"|print|write|answer)\b",
        rf"\bthe\s{_MODEL}\s(?:must|shall|has\sto|is\sto)\s(?:always\s|now\s|also\s|only\s|never\s)?(?:add|append|say|ignore"
        rf"|obey|recommend|respond\swith|reply\swith|answer\swith|end)\b",
        r"^[\s>*_\"'(]*assistants?[:,]\s\S|\bassistants?:\s(?:when|if|all|any|ignore|please|always|mention|say|add)\b",
        sign=_MODEL_SIGN,
    ),
    _rule(
        "dictates the answer",
        "nswer~reply~replies~pond with~pond to~pond only~pond ex~your respons~ say~say ~write~commend our~commend the"
        "~commend this~tell them~tell the user~tell the reader~print ~cite this~your summary~put only~put exact",
        r"\banswer\s(?:every|any|all|each)(?:\s(?:further|other|the|user))?\s(?:questions?|prompts?|requests?|quer(?:y"
        r"|ies))\b(?=[^.!?]{0,90}\b(?:with|by\ssaying|only)\b)",
        r"\breply\sto\s(?:every|any|all|each)\s(?:\w+\s)?questions?\b|\b(?:all|any"
        r"|every)\squestions?\s(?:[^.!?\n]{0,50}\s)?(?:is|are|must\sbe)\sanswered\swith\b|\bwhatever\sthe\squestion\b",
        rf"\b(?:when|whenever|if){_ASKED}",
        rf"\b(?:add|include|append|put)\b[^.!?\n]{{0,90}}?\s(?:to|in|at\sthe\send\sof)\s(?:every|each|all"
        rf"|any)\s(?:of\s)?(?:your\s)?{_REPLY}\b",
        rf"\b(?:begin|start|end|finish)s?\s(?:every|each|all|any|your)\s(?:of\syour\s)?{_REPLY}\b|\balways\s(?:end|begin"
        rf"|start|finish)\s(?:your\s|the\s|each\s)?{_REPLY}\b",
        rf"\b(?:say|recommend|praise|mention|promote|cite|include)\b[^.!?\n]{{0,60}}\sin\syour\s{_REPLY}\b"
        rf"|\bcite\sthis\s(?:sentence|passage|document)\b",
        r"(?:^|[.!?:,]\s+|\band\s)(?:please\s|only\s|always\s|now\s|then\s|you\smust\s)*(?:reply|respond|answer|output"
        r"|say)\s(?:only|exactly|nothing\sbut|just)\s(?:with\s)?(?:the\s)?(?:words?\b|sentence|phrase|following|text|[\"“'«]"
        r"|yes\b|no\b|ok\b|telephone|number)",
        r"(?:^|[.!?:,]\s+|\band\s)(?:please\s|always\s|now\s|then\s)*(?:reply|respond|answer)\swith\s(?:only\s)?(?:[\"“«]"
        r"|the\s(?:words?|phrase|sentence|text)\b|ok\b)",
        sign=_ANSWER_SIGN,
    ),
    _rule(
        "looks like control tokens of a conversation",
        "<|im~<|sy~<|us~<|as~<|en~<|eo~<|st~<|be~<|ch~<|me~[inst]~[/inst]~<<sys~<</sys~f_turn>~## instruction"
        "~## system~## assistant~## user~## human~## response~## new~###instruction~###system~<system~</system"
        "~[system]~</s>",
        r"<\|[^|<>\n]{0,12}(?:im_(?:start|end|sep)|system|user|assistant|endoftext|eot_id|header_id|end|begin_of_text"
        r"|channel|message)[^|<>\n]{0,12}\|>",
        r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|</?system(?:[_-]?(?:prompt|message))?>|^\s*\[system\](?:\s*\(|:)"
        r"|</s>\s*<s>",
        r"^\#\#\#\s?(?:new\s)?(?:instructions?|system|assistant|user|human|response)(?:\sprompt)?\s?:",
    ),
    _rule(
        "looks like a turn of the conversation",
        "tem: ~tem:*~em override~new instr~ructions:~ssistant:~d documents~n documents",
        r"^[\s>*_\#-]*system(?:\s(?:message|prompt|note|override))?[*_]*:[*_]*[\ \t]+\S|\bhuman:[^\n]{0,200}\bassistant:"
        r"|\bsystem\soverride\b",
        r"\b(?:new|updated|additional|urgent)\s(?:system\s)?instructions?\s?(?:for\s(?:the\s)?\w+\s?)?:|^[-=*\#\s]*(?:begin"
        r"|end)\sdocuments[-=*\#\s]*$",
    ),
    _rule(
        "sends data away",
        "send ~forward ~upload~nsmit~xfiltr~leak ~mail ~submit~quest to",
        rf"\b(?:send|forward|upload|transmit|exfiltrate|leak|e-?mail"
        rf"|submit)\s(?:\w+[\s,]\s?){{0,8}}?{_SECRETS}\b[^.!?\n]{{0,40}}?\s(?:to|via|using|at)\s(?:the\s\w+\s"
        rf"|this\s\w+\s)?(?:<?https?://|[\w.+-]{{1,40}}@[\w-]+\.)",
        rf"\b(?:request|call)\sto\s<?https?://\S{{1,200}}\s(?:\w+\s){{0,6}}{_SECRETS}\b",
    ),
    _rule(
        "sends data away with a picture",
        "](ht~] (h",
        r"!\[[^\]\n]{0,80}\]\s?\(\s*<?https?://[^)\s]{0,200}[?&/=][^)\s]{0,60}(?:\{|\[|%7b|<|\$|question|conversation|secret"
        r"|prompt|user_?(?:data|input)|history|answer)",
    ),
    _rule(
        "takes back what the model was told, in another language",
        "gnorier~gnorez~gnore ~gnora~rgiss~rgessen~ssacht~oublie~lvid~mentica~squeç~sconsid~negeer~rgeet~pomnij~zignor"
        "~норир~ращай~абудь~忽略~无视~無視~忽視~忘れ~무시~تجاهل",
        r"\b(?:ignorier\w*|vergiss|vergessen\ssie|missachte\w*)\b[^.!?\n]{0,40}\b(?:anweisung\w*|instruktion\w*|vorgaben"
        r"|regeln|befehle|prompts?)\b|\bvergiss\salles,?\swas\b",
        r"\b(?:ignor\w+|oubli\w+)\b[^.!?\n]{0,40}\b(?:instructions|consignes|directives|règles|ordres)\s(?:précédent"
        r"|antérieur|ci-dessus|reçu|du\ssystème)|\bignore[rz]?\stoutes\sles\s(?:instructions|consignes|règles)",
        r"\b(?:ignor\w+|olvid\w+)\b[^.!?\n]{0,40}\b(?:instrucciones|órdenes|indicaciones)\b|\b(?:ignor\w+|esque\w+"
        r"|desconsider\w+)\b[^.!?\n]{0,40}\b(?:instruções|ordens)\b",
        r"\b(?:ignora\w*|dimentica\w*)\b[^.!?\n]{0,40}\b(?:istruzioni|ordini)\b|\b(?:negeer"
        r"|vergeet)\b[^.!?\n]{0,40}\b(?:instructies|opdrachten|aanwijzingen)\b|\b(?:zignoruj"
        r"|zapomnij)\b[^.!?\n]{0,40}\b(?:instrukcj\w+|polece\w+)",
        r"(?:не\sобращай|игнорир\w*|забудь\w*)[^.!?\n]{0,40}(?:инструкци\w+|указани\w+|команд\w*)|(?:忽略|无视|無視"
        r"|忽視)[^。！？\n]{0,16}(?:指令|指示|提示|规则|規則|命令)",
        r"(?:指示|命令|プロンプト)[^。！？\n]{0,8}(?:無視|忘れ)|지시[^.\n]{0,12}무시|تجاهل[^.\n]{0,30}(?:التعليمات|الأوامر)",
    ),
)


def instructions(text: str) -> list[tuple[int, int]]:
    """Find what speaks to a language model.

    Args:
        text: Normalised text.

    Returns:
        Spans of the words that gave it away, in ascending order of start; they may overlap.
    """
    spans: set[tuple[int, int]] = set()
    for rule_no, places in _cued(text).items():
        rule = _RULES[rule_no]
        for start, end in _windows(places, len(text)):
            if rule.sign and not rule.sign.search(_ascii_lower(text[start:end])):
                continue
            # NUL begins no line; the dotted capital I is the one character that grows when it is put in lower case.
            window = ("\0" if start else "") + text[start:end].replace("\u0130", "I").lower()
            shift = start - (1 if start else 0)
            spans.update((match.start() + shift, match.end() + shift) for match in rule.pattern.finditer(window))
    return sorted((max(start, 0), end) for start, end in spans)


def _ascii_lower(text: str) -> str:
    """In lower case as far as that gives ASCII letters, of which the signs are made: five times as fast as all of it."""
    if text.isascii():
        return text.lower()
    text = text.replace("\u0130", "I").replace("\u212a", "k")  # the Kelvin sign
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _windows(places: list[int], length: int) -> Iterator[tuple[int, int]]:
    start = end = -1
    for place in places:
        if start < 0:
            start = max(place - _REACH, 0)
        elif place - _REACH > end:
            yield start, end
            start = place - _REACH
        end = min(place + _REACH, length)
    if start >= 0:
        yield start, end


def _gram(cue: str) -> int:
    return int.from_bytes(cue.encode()[:4], "little") | _FOLD


def _cues() -> dict[int, list[tuple[bytes, int]]]:
    """For every first four bytes of a cue, the cues that begin so, each with the number of its rule."""
    found: dict[int, list[tuple[bytes, int]]] = {}
    for rule_no, rule in enumerate(_RULES):
        for cue in rule.cues:
            found.setdefault(_gram(cue), []).append((cue.encode(), rule_no))
    return found


_CUES = _cues()
_IS_CUE = np.zeros(1 << _HASH_BITS, dtype=bool)
_IS_CUE[[(gram * _HASH_FACTOR & 0xFFFFFFFF) >> (32 - _HASH_BITS) for gram in _CUES]] = True


def _cued(text: str) -> dict[int, list[int]]:
    """Places of the cues of every rule, ascending: all four-byte words of the text are looked up in a table of hashes at once."""
    data = text.encode("utf-8", "replace")
    found: dict[int, list[int]] = {}
    if len(data) < 4:
        return found
    words = np.ndarray(len(data) - 3, "<u4", data, strides=(1,)) | np.uint32(_FOLD)
    hashes = words * np.uint32(_HASH_FACTOR)
    hashes >>= np.uint32(32 - _HASH_BITS)
    places = _IS_CUE.take(hashes, mode="clip").nonzero()[0]  # no hash needs the clipping; the other modes take twice the time
    is_ascii = len(data) == len(text)
    n_bytes = n_chars = 0
    for place, word in zip(places.tolist(), words[places].tolist(), strict=True):
        for cue, rule_no in _CUES.get(word, ()):
            if data[place : place + len(cue)].lower() == cue:
                n_chars = place if is_ascii else n_chars + len(data[n_bytes:place].decode("utf-8", "ignore"))
                n_bytes = place
                found.setdefault(rule_no, []).append(n_chars)
    return found
