"""llama.cpp's own OpenAI-compatible server on loopback, in a process of its own.

Run as a script it serves the GGUF file given until its standard input ends; it imports nothing of the other tests then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from rag.settings import LanguageModelSettings

API_KEY = "sk-very-secret-key"
LLAMA_WINDOW = 1024


@contextmanager
def running_llama(gguf: Path, *, with_pid: bool = False) -> Iterator[LanguageModelSettings]:
    """Serve a GGUF file by llama.cpp in a process of its own until the block ends, with the key `API_KEY`.

    Raises:
        RuntimeError: If it does not start.
    """
    command = [sys.executable, "-P", __file__, str(gguf)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout
        address = child.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"llama.cpp did not start; to see why, run: {' '.join(command)}")
        pid = child.pid if with_pid else 0
        # Leaving the block ends the child's standard input.
        yield LanguageModelSettings("http", gguf.stem, f"{address}/v1", API_KEY, timeout_s=120.0, window=LLAMA_WINDOW, pid=pid)


def _serve_llama(gguf: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx = LLAMA_WINDOW
    params.n_parallel = 1
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.api_keys = [API_KEY]
    params.endpoint_slots = params.ui = False
    params.cors_origins = ""
    server = xllamacpp.Server(params)
    # Setting no adapters is the loop's work. A server that goes before its loop has begun waits for it for ever.
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    with closing(HTTPConnection(urlsplit(server.listening_address).netloc, timeout=60.0)) as connection:
        connection.request("POST", "/lora-adapters", "[]", headers)
        assert connection.getresponse().status == 200
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve_llama(sys.argv[1])
