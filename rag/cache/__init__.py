"""Answers that were given before: exactly the same question, or a paraphrase of it.

What makes an answer hold: every document that it cites, or names as holding the same text, has the fingerprint that it had when the
answer was made. So an edit to a cited document ends the answer at once, a deletion too, and an edit elsewhere does not. An abstention
cites nothing, and any change might hold the answer: it holds for its own version of the collection only.

What that leaves open: a document that came later, or was edited, might answer better than those cited. The answer given is still true
to documents that still say so, but it may not be the one that a fresh search would give; after ``ttl_s`` it is made anew. Who cannot
accept that turns the cache off.

The file is ``cache.sqlite`` beside the catalog, and not a table in it: the catalog has one writer and readers that never write, every
question may write here, and this file may be deleted at any time. A cache that cannot be read or written never fails a question; it
says why in the note of the lookup.
"""

from rag.cache.answers import FILE_NAME, AnswerCache, Lookup, Stats, open_cache
from rag.cache.asked import Asked
from rag.cache.entry import Edition, Hit, Key

__all__ = ["FILE_NAME", "AnswerCache", "Asked", "Edition", "Hit", "Key", "Lookup", "Stats", "open_cache"]
