"""Every file is read in a child process that can hurt nothing: limits of memory, time and output, and no network.

The parent's side is `ingest.sandbox.pool`. Nothing is imported here, because every child would pay for it.
"""
