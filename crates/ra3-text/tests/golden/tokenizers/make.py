"""Writes what transformers makes of tokenizer files, for `tests/tokenizers.rs`.

    pip install transformers==5.24.0
    python crates/ra3-text/tests/golden/tokenizers/make.py

`tokenizer.json` is a small byte-level BPE with Qwen's division. Each case of `cases.json` changes
some of its keys and puts files beside it, and lists the ids of prompts (as the tokenizer's call
gives them), the ids of rendered conversations (without what a call adds), and the names of the
begin and end of text.
"""

import json
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXT = "def f(xs):\n    for x in xs:\n        y = x + 12\n\n    return y\n# the user says hello\n"
PROMPTS = ["def f(x):\n    return x", "x = 'é'\n\n\n\ty = 2\r\n", " \n", "# it's 37"]


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=290, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return json.loads(tokenizer.to_str())


BASE = train()
FIRST = len(BASE["model"]["vocab"])


def added(*tokens):
    """Added tokens: a name, or a name with flags by their first letters, `S` for not special."""
    found = []
    for index, token in enumerate(tokens):
        name, flags = token if isinstance(token, tuple) else (token, "")
        found.append(dict(id=FIRST + index, content=name, single_word="w" in flags,
                          lstrip="l" in flags, rstrip="r" in flags, normalized="n" in flags,
                          special="S" not in flags))
    return found


def begins(name, index):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": name, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [index], "tokens": [name]}}}


ENDS = added("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA = added("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
FLAGS = added(
    "<|endoftext|>", ("<l>", "l"), ("<r>", "r"), ("<lr>", "lr"), ("<w>", "w"), ("<n>", "n"),
    ("<nlr>", "nlrw"), ("[L]", "Sl"), ("[R]", "Sr"), ("[W]", "Sw"), ("[N]", "Snlr"),
    ("<think>", "Sr"), ("→", "S"), ("é1", "S"), ("<｜User▁x｜>", ""), ("[EOL]\n", "S"))
FLAG_CHATS = [
    "<l>a <l> b<l>\n <l>\n\n", "<r> a<r>\n\n  b <r>", "a  <lr>  <lr> b\n<lr>", "a<w>b <w> <w>",
    "x <n> <nlr> y\n<nlr>z", "a [L] b[L]  [R] c\n[R]\n", "a[W]b [W] c[W]", "a [N] [N]\nb",
    "<think> \n x<think>", "a → b→é1 é", "<｜User▁x｜>hi [EOL]\n[EOL]\n",
    "<l> <r> <lr> [L] [R] <w>\n", "no tokens at all\n\n  é\r\n",
]
CHATS = ["<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", "x<|endoftext|> y\n\n\nz"]

CASES = [
    dict(name="qwen", tokenizer=dict(added_tokens=ENDS, normalizer={"type": "NFC"}),
         config=dict(eos_token="<|im_end|>", bos_token=None, add_bos_token=False)),
    dict(name="qwen_with_bytes", tokenizer=dict(added_tokens=ENDS, post_processor=BYTES),
         config=dict(eos_token="<|endoftext|>")),
    dict(name="add_bos_token_alone", tokenizer=dict(added_tokens=ENDS),
         config=dict(eos_token="<|endoftext|>", bos_token="<|im_start|>", add_bos_token=True)),
    dict(name="llama3",
         tokenizer=dict(added_tokens=LLAMA, post_processor=begins("<|begin_of_text|>", FIRST)),
         config=dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")),
    dict(name="llama3_nested",
         tokenizer=dict(added_tokens=LLAMA, post_processor={
             "type": "Sequence", "processors": [BYTES, begins("<|begin_of_text|>", FIRST)]}),
         config=dict(bos_token="<|begin_of_text|>", eos_token=dict(
             __type="AddedToken", content="<|eot_id|>", lstrip=False, normalized=False,
             rstrip=False, single_word=False))),
    dict(name="post_processor_against_add_bos_token",
         tokenizer=dict(added_tokens=LLAMA, post_processor=begins("<|begin_of_text|>", FIRST)),
         config=dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", add_bos_token=False)),
    dict(name="older_names", tokenizer=dict(added_tokens=LLAMA),
         config=dict(bos_token="<|eot_id|>", eos_token="<|eot_id|>"),
         older=dict(bos_token=dict(content="<|begin_of_text|>", lstrip=False, normalized=False,
                                   rstrip=False, single_word=False),
                    eos_token="<|end_of_text|>")),
    dict(name="options_of_a_call", config=dict(eos_token="<|endoftext|>"), tokenizer=dict(
        added_tokens=ENDS,
        truncation=dict(direction="Right", max_length=4, strategy="LongestFirst", stride=0),
        padding=dict(strategy={"Fixed": 24}, direction="Left", pad_to_multiple_of=None,
                     pad_id=FIRST, pad_type_id=0, pad_token="<|endoftext|>"))),
    dict(name="flags", tokenizer=dict(added_tokens=FLAGS), config=dict(eos_token="<|endoftext|>"),
         chats=FLAG_CHATS),
    dict(name="flags_composed", tokenizer=dict(added_tokens=FLAGS, normalizer={"type": "NFC"}),
         config=dict(eos_token="<|endoftext|>"), chats=FLAG_CHATS),
]


def record(case):
    with tempfile.TemporaryDirectory() as folder:
        files = {"tokenizer.json": {**BASE, **case["tokenizer"]},
                 "tokenizer_config.json": case["config"],
                 **({"special_tokens_map.json": case["older"]} if "older" in case else {})}
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content), encoding="utf-8")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    chats = case.pop("chats", CHATS)
    return {**case, "bos": tokenizer.bos_token, "eos": tokenizer.eos_token,
            "prompts": [[text, tokenizer(text).input_ids] for text in PROMPTS],
            "conversations": [[text, tokenizer(text, add_special_tokens=False).input_ids]
                              for text in chats]}


def main():
    (HERE / "tokenizer.json").write_text(
        json.dumps(BASE, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    cases = [json.dumps(record(case), ensure_ascii=False) for case in CASES]
    (HERE / "cases.json").write_text("[\n" + ",\n".join(cases) + "\n]\n", encoding="utf-8")


main()
