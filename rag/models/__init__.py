"""Embedding models as folders: the shipped one, those that the user added, and how to make another.

In the order in which they build on each other: `card` (what a folder says of itself), `session` (tokenizer and graph of
a folder, run on this machine), `registry` (list, find, verify), `parity` (what quantisation cost), `export` (make a
folder, extra [export]), `cli`.
"""
