"""Derived index files: the lexical one (tantivy) and the dense one (faiss). Both speak of rows of one snapshot."""
