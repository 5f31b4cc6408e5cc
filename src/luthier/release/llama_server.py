"""llama.cpp's HTTP server from the xllamacpp wheel, in a process of its own: FILE and the context's tokens.

Of its own, because it writes a log to stdout, and because a file that it does not like may end the whole process.
Serves until stdin closes; prints its address as the only line on stdout.
"""

from __future__ import annotations

import os
import sys


def main(path: str, context_tokens: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel = context_tokens, 1
    params.cpuparams.n_threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = xllamacpp.Server(params)
    print(server.listening_address, file=told, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
