"""How the libraries behave in our processes."""

from __future__ import annotations

import logging
import os


def quiet_libraries() -> None:
    """No bars and chatter among ours, no network, no spinning threads; before they are imported."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("DIFFUSERS_DISABLE_REMOTE_CODE", "1"),
        # Threads that spin while they wait make a busy machine crawl: 6 s became 40 and more beside
        # one other generation on two cores.
        ("OMP_WAIT_POLICY", "PASSIVE"),
    ):
        os.environ.setdefault(name, value)
    # diffusers imports torchao wherever it is installed; it says which of its kernels are not for
    # this machine, and torch that torchao calls it in an old way.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
