"""Where models are, and what is said of it."""

import torch

from ra3_worker import main


def test_a_device_is_chosen_or_missed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = {"device": "auto", "n_threads": 1}
    found = main._prepare(settings)
    assert found == {"device": "cpu", "gpus": [], "fault": ""}
    assert settings["device"] == "cpu"
    found = main._prepare({"device": "cuda", "n_threads": 1})
    assert "sees no GPU" in found["fault"]
