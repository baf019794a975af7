#!/bin/sh
# The PyTorch engine on one GPU: are its numbers right, and how fast is it? Ten minutes at most.
#
#     bench/gpu.sh --json gpu.json
#     bench/gpu.sh --size tiny --device cpu      # all of it, on a processor, in a minute
#
# `PYTHON` names an interpreter that has torch, transformers, safetensors and numpy. Nothing is
# downloaded or built. bench/README.md says what is measured.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
worker=$here/../crates/ra3-torch/python
export PYTHONPATH="$worker${PYTHONPATH:+:$PYTHONPATH}"
# Each part has a limit of its own; this one is for a process that does not answer any more.
exec timeout --kill-after=10 600 "${PYTHON:-python3}" "$here/gpu.py" "$@"
