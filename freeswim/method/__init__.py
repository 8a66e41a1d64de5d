"""The FreeSwim method, arXiv 2511.14712, on an unmodified diffusers transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freeswim.method.settings import RefineSettings

if TYPE_CHECKING:
    from freeswim.method.denoise import refine

__all__ = ["RefineSettings", "refine"]


def __getattr__(name: str) -> Any:
    # The settings and the window geometry serve processes without torch: only `refine` needs it.
    if name == "refine":
        from freeswim.method.denoise import refine

        return refine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
