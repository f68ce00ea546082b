"""What the shell proposes after a press of tab: names of ready configs, backbones and config keys."""

from __future__ import annotations

import typer


def ready(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete `--config` of a command: its ready configs, by name."""
    from rtok.config.protocols import COMMAND
    from rtok.config.ready import protocols, ready_configs

    names = [*ready_configs(ctx.info_name or ""), *(protocols() if ctx.info_name == COMMAND else ())]
    return [name for name in names if name.startswith(incomplete)]


def any_ready(incomplete: str) -> list[str]:
    """Complete the full name of a ready config, `COMMAND/NAME`."""
    from rtok.config.ready import all_ready

    return [name for name in all_ready() if name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Complete the name of a backbone."""
    from rtok.models.registry import all_specs

    return [spec.name for spec in all_specs() if spec.name.startswith(incomplete)]


def override(incomplete: str) -> list[str]:
    """Complete `KEY=VALUE` of `--set`: a top-level key or one of a section, then the name of a backbone."""
    from rtok.config.schema import Config
    from rtok.config.validation import key_names, sections_in

    path, equals, value = incomplete.partition("=")
    if equals:
        return [f"{path}={name}" for name in models(value)] if path in ("model.name", "surrogate.model") else []
    section, dot, _ = path.partition(".")
    fields = key_names(Config)
    if not dot:
        return [f"{name}=" for name in fields if name.startswith(path)]
    inside = sections_in(fields[section].annotation) if section in fields else ()
    keys = {f"{section}.{name}=": None for part in inside for name in key_names(part)}
    return [key for key in keys if key.startswith(path)]
