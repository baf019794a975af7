"""Writes what transformers renders from chat templates, for `tests/chat_templates.rs`.

    pip install transformers==5.23.0 jinja2==3.1.6
    python crates/ra3-text/tests/golden/chat_templates/make.py

Each folder is a model's as far as templates go: `chat_template.jinja` or templates that this script
puts into `tokenizer_config.json` by name. The templates are written for this test in the manner of
four families, and `features` has the constructs that they do not use. `cases.json` lists for each
conversation the folder, the arguments, and the text, or the message of the template's exception.
"""

import json
import tempfile
from datetime import datetime
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
NOW = datetime(2026, 3, 4, 5, 6, 7)
SPECIALS = {
    "qwen2_style": dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None),
    "qwen3_style": dict(eos_token="<|im_end|>", pad_token="<|endoftext|>"),
    "llama3_style": dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"),
    "mistral_style": dict(
        bos_token=dict(__type="AddedToken", content="<s>", lstrip=False, normalized=False,
                       rstrip=False, single_word=False, special=True),
        eos_token="</s>", unk_token="<unk>"),
    "features": dict(bos_token="<b>", eos_token="<e>", pad_token="<p>", image_token="<image>"),
}

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place, \"now\" <or> later & more",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Größe, 東京, it's"},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "days": {"type": "integer", "default": 1, "minimum": 0.5}},
        "required": ["place"], "additionalProperties": False, "x": None}}}
CLOCK = {"type": "function", "function": {
    "name": "clock", "description": "Time", "parameters": {"type": "object", "properties": {}}}}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


HELLO = [say("user", "Hello")]
SYSTEM = [say("system", "  Be kind.\n"), say("user", " a < b & 'c' \"d\"\n")]
TURNS = SYSTEM + [say("assistant", "Sure. "), say("user", "Größe?\t😀")]
THOUGHT = [say("user", "1 + 1?"), say("assistant", "<think>\nadd\n</think>\n\n2"),
           say("user", "2 + 2?"), say("assistant", "<think>\nadd again\n\n</think>\n\n4")]
REASONED = [say("user", "1 + 1?"), say("assistant", "2", reasoning_content="\nadd\n")]
ALIASED = [say("user", "1 + 1?"), say("assistant", "2", thinking="so")]
PARTS = [say("user", [{"type": "text", "text": "look "}, {"type": "image"},
                      {"type": "text", "text": "here"}])]
CALLED = [say("user", "Weather?"),
          say("assistant", None, tool_calls=[
              call("get_weather", {"place": "Köln", "days": 2, "z": 1e-7, "a": [1.0, None]},
                   id="abcdefghi")]),
          say("tool", "{\"t\": 3}", tool_call_id="abcdefghi"),
          say("assistant", "Cold.")]
TWICE = [say("system", "S"), say("user", "Both?"),
         say("assistant", "I look.", tool_calls=[
             call("get_weather", {"place": "A"}, id="aaaaaaaaa"),
             call("clock", {}, id="bbbbbbbbb")]),
         say("tool", "1", tool_call_id="aaaaaaaaa"), say("tool", "2", tool_call_id="bbbbbbbbb"),
         say("user", "Thanks")]
STRINGY = [say("user", "x"), say("assistant", "", tool_calls=[call("clock", "{\"a\": 1}")])]
BRAVE = [say("user", "search"), say("assistant", "", tool_calls=[
    call("brave_search", {"query": "q", "more": "m"})]), say("ipython", {"b": 1, "a": "é"})]
FEATURES = [say("user", "first"), say("quiet", "shh"), say("assistant", "ok"), say("skip", "-"),
            say("tool", "{}"), say("user", "a"), say("user", "b"), say("user", "c")]

CASES = [
    *[(family, dict(messages=messages, add_generation_prompt=prompt))
      for family in ("qwen2_style", "qwen3_style", "llama3_style", "mistral_style")
      for messages in (HELLO, SYSTEM, TURNS) for prompt in (False, True)],
    *[(family, dict(messages=messages, tools=tools, add_generation_prompt=prompt))
      for family in ("qwen2_style", "qwen3_style", "mistral_style", "llama3_style")
      for messages in (CALLED, TWICE)
      for tools, prompt in (([WEATHER, CLOCK], True), ([CLOCK], False), (None, False))],
    *[("qwen3_style", dict(messages=messages, add_generation_prompt=prompt))
      for messages in (THOUGHT, REASONED, ALIASED, PARTS, STRINGY) for prompt in (False, True)],
    ("qwen3_style", dict(messages=HELLO, add_generation_prompt=True,
                         variables=dict(enable_thinking=False))),
    ("qwen3_style", dict(messages=[say("user", 3)])),
    ("llama3_style", dict(messages=CALLED, tools=[WEATHER],
                          variables=dict(tools_in_user_message=False))),
    ("llama3_style", dict(messages=BRAVE, variables=dict(
        builtin_tools=["brave_search", "code_interpreter"], date_string="1 Jan 2000"))),
    ("mistral_style", dict(messages=[say("user", "a"), say("user", "b")])),
    ("mistral_style", dict(messages=HELLO, variables=dict(bos_token="<other>"))),
    ("mistral_style", dict(messages=STRINGY, tools=[CLOCK])),
    ("features", dict(messages=FEATURES, add_generation_prompt=True)),
    ("features", dict(messages=FEATURES[:1], tools=[CLOCK], variables=dict(documents=[{"a": 1}]))),
]


class FixedTime(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def write_folder(family):
    """The part of a model's folder that is committed."""
    folder = HERE / family
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIALS[family]}
    if family == "mistral_style":
        config["chat_template"] = [dict(name=name, template=(folder / f"{name}.jinja").read_text())
                                   for name in ("default", "tool_use")]
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n")
    return folder


def load(folder):
    """The tokenizer of a folder, with a vocabulary that templates do not look at."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        Tokenizer(models.BPE()).save(str(scratch / "tokenizer.json"))
        for name in ("tokenizer_config.json", "chat_template.jinja"):
            if (folder / name).exists():
                (scratch / name).write_text((folder / name).read_text())
        return PreTrainedTokenizerFast.from_pretrained(scratch)


def render(tokenizer, arguments):
    variables = arguments.get("variables", {})
    try:
        text = tokenizer.apply_chat_template(
            arguments["messages"], tools=arguments.get("tools"), tokenize=False,
            add_generation_prompt=arguments.get("add_generation_prompt", False), **variables)
    except Exception as error:
        return dict(error=str(error))
    return dict(text=text)


def main():
    chat_template_utils.datetime = FixedTime
    tokenizers = {family: load(write_folder(family)) for family in SPECIALS}
    cases = [dict(folder=family, **arguments, **render(tokenizers[family], arguments))
             for family, arguments in CASES]
    golden = dict(transformers=transformers.__version__, now=NOW.isoformat(), cases=cases)
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (HERE / "cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
