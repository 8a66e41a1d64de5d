"""Presets: named defaults for a request, one commented YAML file each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import yaml

from freeswim import paths
from freeswim.errors import PresetError, RequestError
from freeswim.method.settings import BaseSettings, RefineSettings
from freeswim.models.catalog import find_checkpoint

MAX_BYTES = 64 * 1024  # of a preset file; a larger one is no preset

# What a preset may say of a request; None: a plain value.
_KEYS: dict[str, type | None] = {
    "checkpoint": None,
    "negative_prompt": None,
    "width": None,
    "height": None,
    "frames": None,
    "draft": None,
    "weights": None,
    "base": BaseSettings,
    "refine": RefineSettings,
}
_ALLOWED = ["title", "description", "needs_lora", *_KEYS]


@dataclass(frozen=True)
class Preset:
    """Named defaults for a request."""

    name: str
    title: str
    description: str
    defaults: dict[str, Any]  # of Request's fields
    needs_lora: bool = False  # whether its settings are for a distilled LoRA, and mush without

    def check_loras(self, num_loras: int) -> None:
        """Check that a request made with this preset has the LoRA that it needs.

        Raises:
            RequestError: it has none.
        """
        if self.needs_lora and num_loras == 0:
            raise RequestError(
                f"Preset {self.name} needs a LoRA that was distilled for few steps.",
                hint=f"Give one with --lora FILE.safetensors. {self.description}",
            )


def load_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        PresetError: there is none, or its file is wrong; names file and key.
    """
    names = preset_names()
    if name not in names:
        raise PresetError(
            f"There is no preset called {name!r}.", hint=f"Use one of: {', '.join(names)}."
        )
    return read_preset(paths.presets() / f"{name}.yaml")


def preset_names() -> list[str]:
    """Names of the presets that come with FreeSwim."""
    return sorted(path.stem for path in paths.presets().glob("*.yaml"))


def read_preset(path: Path) -> Preset:
    """The preset in the file at `path`, checked whole.

    Raises:
        PresetError: the file cannot be read, or a key or value in it is wrong.
    """
    content = _read_yaml(path)
    _check_keys(path, content, _ALLOWED, "")
    for section, settings in _KEYS.items():
        if settings is not None and section in content:
            _check_section(path, section, content[section], settings)
    needs_lora = content.get("needs_lora", False)
    if not isinstance(needs_lora, bool):
        raise PresetError(
            f"{path.name}: needs_lora cannot be {needs_lora!r}.", hint="Write true or false."
        )
    try:
        find_checkpoint(content.get("checkpoint", ""))
    except RequestError as error:
        raise PresetError(f"{path.name}: checkpoint: {error.message}", hint=error.hint) from error
    return Preset(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        description=str(content.get("description", "")).strip(),
        defaults={key: value for key, value in content.items() if key in _KEYS},
        needs_lora=needs_lora,
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise PresetError(f"{path.name} is too large for a preset.", hint="Use a YAML preset.")
        # Aliases can blow a small file up to any size, and a preset needs none.
        tokens = cast(Iterable[object], yaml.scan(text))  # pyright: ignore[reportUnknownMemberType]
        if any(isinstance(token, yaml.AliasToken) for token in tokens):
            raise PresetError(f"{path.name} holds a YAML alias.", hint="Write the values out.")
        content = yaml.safe_load(text)
    except OSError as error:
        raise PresetError(f"{path.name} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise PresetError(f"{path.name} is not YAML: {reason}.", hint="Check the file.") from error
    if not isinstance(content, dict):
        raise PresetError(f"{path.name} holds no settings.", hint=_allowed_hint(_ALLOWED))
    return cast(dict[str, Any], content)


def _check_section(path: Path, section: str, content: Any, settings: type) -> None:
    if not isinstance(content, dict):
        raise PresetError(f"{path.name}: {section} holds no settings.", hint="Indent its keys.")
    values = cast(dict[str, Any], content)
    _check_keys(path, values, [field.name for field in fields(settings)], f"{section}.")
    try:
        settings(**values)
    except RequestError as error:
        raise PresetError(f"{path.name}: {section}: {error.message}", hint=error.hint) from error
    except TypeError as error:
        raise PresetError(
            f"{path.name}: {section} holds a value of the wrong type.", hint=str(error)
        ) from error


def _check_keys(path: Path, content: dict[str, Any], allowed: list[str], prefix: str) -> None:
    for key in content:
        if key not in allowed:
            raise PresetError(
                f"{path.name}: there is no setting {prefix}{key}.", hint=_allowed_hint(allowed)
            )


def _allowed_hint(allowed: list[str]) -> str:
    return f"Allowed: {', '.join(allowed)}."
