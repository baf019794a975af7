"""The generation jobs of `ra3 bench` as llama.cpp does them: one job a process, one JSON line.

    python peer_llama.py --model S-bf16.gguf --job generate-8 --runs 3 --threads 2

The model is a file of gguf_model.py, the job stands in bench/README.md. All rows are one batch, by
the low-level interface: one `llama_decode` for the prompts and one for each token of all rows, and
llama.cpp's own `dist` sampler (softmax over the whole vocabulary, one draw) once a row. With
weights in f32 keys and values are f32 too, and attention is not the fused one, which has f16
inside; else both are what they are by default, f16 and fused. It runs on the processor alone.
"""

import argparse
import ctypes
import importlib.metadata
import json
import resource
import statistics
import time
from collections.abc import Callable

import llama_cpp
import numpy

PROMPT = 64
# Of ggml: the type's number.
F32 = 0


@llama_cpp.llama_log_callback
def silent(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """Takes what the library has to say."""


class Llama:
    """A model with a context for so many rows, and a batch that they share."""

    def __init__(
        self, path: str, n_rows: int, n_row: int, threads: int, all_logits: bool = False
    ) -> None:
        """A context of `n_row` tokens a row."""
        llama_cpp.llama_log_set(silent, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(vocabulary)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = n_rows * n_row
        options.n_seq_max = n_rows
        options.n_batch = n_rows * n_row
        options.n_threads = options.n_threads_batch = threads
        if path.endswith("f32.gguf"):
            options.type_k = options.type_v = F32
            options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if all_logits:
            options.n_outputs_max_per_seq = n_row
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        assert self.model and self.context, f"llama.cpp does not take {path}"
        self.batch = llama_cpp.llama_batch_init(n_rows * n_row, 0, 1)
        fields = self.batch.token, self.batch.pos, self.batch.logits, self.batch.n_seq_id
        arrays = [numpy.ctypeslib.as_array(field, (n_rows * n_row,)) for field in fields]
        self.tokens, self.positions, self.wanted, n_rows_of_each = arrays
        n_rows_of_each[:] = 1

    def clear(self) -> None:
        """Forgets all rows."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def arrange(self, n_rows: int, n_each: int, every: bool = False) -> None:
        """The next passes append `n_each` tokens to each row, and want the logits of the last."""
        self.batch.n_tokens = n_rows * n_each
        wanted = self.wanted[: n_rows * n_each].reshape(n_rows, n_each)
        wanted[:] = every
        wanted[:, -1] = True
        for index in range(n_rows * n_each):
            self.batch.seq_id[index][0] = index // n_each

    def decode(self, tokens: numpy.ndarray, first: int) -> None:
        """One pass over tokens `[rows, each]` from this position on."""
        n = tokens.size
        self.tokens[:n] = tokens.ravel()
        places = first + numpy.arange(tokens.shape[1], dtype=numpy.int32)
        self.positions[:n] = numpy.tile(places, tokens.shape[0])
        status = llama_cpp.llama_decode(self.context, self.batch)
        assert status == 0, f"llama_decode says {status}"

    def logits(self, tokens: numpy.ndarray) -> numpy.ndarray:
        """Logits after every token of one row, `[tokens, vocabulary]`."""
        self.clear()
        self.arrange(1, tokens.size, every=True)
        self.decode(tokens[None], 0)
        rows = [llama_cpp.llama_get_logits_ith(self.context, at) for at in range(tokens.size)]
        return numpy.stack([numpy.ctypeslib.as_array(row, (self.vocabulary,)) for row in rows])


def generate(llama: Llama, n_rows: int) -> Callable[[], None]:
    """The job `generate-B`."""
    draws = numpy.random.default_rng(0)
    prompts = draws.integers(0, llama.vocabulary - 8, (n_rows, PROMPT), dtype=numpy.int32)
    sampler = llama_cpp.llama_sampler_init_dist(1)

    def drawn(n_each: int) -> numpy.ndarray:
        last = range(n_each - 1, n_rows * n_each, n_each)
        tokens = [llama_cpp.llama_sampler_sample(sampler, llama.context, at) for at in last]
        return numpy.array(tokens, dtype=numpy.int32)[:, None]

    def run() -> None:
        llama.clear()
        llama.arrange(n_rows, PROMPT)
        llama.decode(prompts, 0)
        tokens = drawn(PROMPT)
        llama.arrange(n_rows, 1)
        for place in range(PROMPT, 2 * PROMPT - 1):
            llama.decode(tokens, place)
            tokens = drawn(1)

    return run


def instructions() -> str:
    """What the processor's part of the library was built with."""
    text = llama_cpp.llama_print_system_info().decode()
    return " ".join(part.split(" = ")[0].split()[-1] for part in text.split("|") if "= 1" in part)


def main() -> None:
    """One job."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    n_rows = int(options.job.removeprefix("generate-"))
    llama = Llama(options.model, n_rows, 2 * PROMPT, options.threads)
    run = generate(llama, n_rows)
    run()
    seconds = []
    for _ in range(options.runs):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    version = importlib.metadata.version("llama-cpp-python")
    line = {
        "job": options.job,
        "model": options.model,
        "seconds": statistics.median(seconds),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": f"llama-cpp-python {version} ({instructions()})",
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
