"""The service. It may use `ingest.pipeline` from one file and `rag` from all; nothing below knows it."""
