"""The worker behind `ra3`'s seam: language models of PyTorch, driven by frames on a socket.

It knows token ids and numbers only. `main` reads requests, `model` holds the models, `run` draws
and scores, `update` trains, `state` reads and writes folders, `wire` is the protocol.
"""
