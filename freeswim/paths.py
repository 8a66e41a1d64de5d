"""Where things are on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs


def home() -> Path:
    """FreeSwim's own folder; `FREESWIM_HOME` moves it, for a throw-away run."""
    if moved := os.environ.get("FREESWIM_HOME"):
        return Path(moved).expanduser().resolve()
    return platformdirs.user_data_path("FreeSwim", appauthor=False)


def models() -> Path:
    """Folder of the checkpoints, one folder each by catalog name; `FREESWIM_MODELS` moves it."""
    if moved := os.environ.get("FREESWIM_MODELS"):
        return Path(moved).expanduser().resolve()
    return home() / "models"


def history() -> Path:
    """What this machine has done before, a line a run."""
    return home() / "history.jsonl"


def takes() -> Path:
    """Folder of the takes that the studio publishes; `FREESWIM_TAKES` moves it."""
    if moved := os.environ.get("FREESWIM_TAKES"):
        return Path(moved).expanduser().resolve()
    return home() / "takes"


def jobs() -> Path:
    """Folder of the studio's jobs, one folder each by id."""
    return home() / "jobs"


def database() -> Path:
    """The studio's database."""
    return home() / "studio.db"


def backups() -> Path:
    """Folder of the database's backups."""
    return home() / "backups"


def studio() -> Path:
    """Folder, of this user alone, in which a studio says where it can be reached."""
    return home() / "run"


def logs() -> Path:
    """Folder of the logs."""
    return home() / "logs"


def text_embeds() -> Path:
    """Folder of the encoded prompts that are kept."""
    return home() / "text-embeds"


def resolve_media() -> Path:
    """Folder of the masters and stills that DaVinci Resolve is given; `FREESWIM_RESOLVE` moves it.

    Under the person's own documents: a Resolve in a sandbox reads and writes nothing elsewhere.
    """
    if moved := os.environ.get("FREESWIM_RESOLVE"):
        return Path(moved).expanduser().resolve()
    if "FREESWIM_HOME" in os.environ:
        return home() / "resolve"
    return platformdirs.user_documents_path() / "FreeSwim"


def mailbox() -> Path:
    """Folder, of this user alone, in which scripts inside Resolve look for what to do."""
    return home() / "mailbox"


def fusion_profiles() -> Path:
    """Folder of Fusion's profiles inside Resolve's; `FREESWIM_FUSION` moves it."""
    if moved := os.environ.get("FREESWIM_FUSION"):
        return Path(moved).expanduser().resolve()
    company = "Blackmagic Design/DaVinci Resolve"
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support" / company
    elif sys.platform == "win32":
        roaming = os.environ.get("APPDATA")
        folder = Path(roaming) if roaming else Path.home() / "AppData" / "Roaming"
        folder = folder / company / "Support"
    else:
        folder = Path.home() / ".local" / "share" / "DaVinciResolve"
    return folder / "Fusion" / "Profiles"


def presets() -> Path:
    """Folder of the presets that come with FreeSwim."""
    package = Path(__file__).parent
    installed = package / "preset_files"  # where the wheel puts the repository's presets folder
    return installed if installed.is_dir() else package.parent / "presets"


def demo_weights() -> Path:
    """Folder of the checkpoint that comes inside the package."""
    return Path(__file__).parent / "models" / "demo" / "weights"
