"""A project as a Compose file again: what ``config`` prints, which reads back to the same project; pure."""

from __future__ import annotations

from typing import Any

from wherry.engine.compose.interpolate import escape
from wherry.engine.compose.model import DEFAULT_NETWORK, Project, network_name, networks_of, volume_name


def model(project: Project, *, interpolated: bool = True) -> dict[str, Any]:
    """Returns a project as the mapping of a Compose file.

    Args:
        project: which.
        interpolated: escape dollar signs, so that nothing is filled in a second time.
    """
    services = {name: _service(project, service) for name, service in sorted(project.services.items())}
    found: dict[str, Any] = {"name": project.name, "services": services}
    used = {key for service in project.services.values() for key in networks_of(service)}
    networks = {
        key: {**given, "name": network_name(project, key)}
        for key, given in project.networks.items()
        if key != DEFAULT_NETWORK or key in used
    }
    volumes = {key: {**given, "name": volume_name(project, key)} for key, given in project.volumes.items()}
    for section, given in (("networks", networks), ("volumes", volumes)):
        for item in given.values():
            if isinstance(item.get("external"), str):
                item["external"] = True
        if given:
            found[section] = given
    for section in ("configs", "secrets"):
        entries = getattr(project, section)
        if entries:
            found[section] = {key: dict(item) for key, item in entries.items()}
    result: dict[str, Any] = _escaped(found) if interpolated else found
    return result


def _service(project: Project, service: Any) -> dict[str, Any]:
    found = dict(service)
    if "network_mode" not in found:
        found["networks"] = {key: dict(given) or None for key, given in networks_of(service).items()}
    return dict(sorted(found.items()))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value


def to_yaml(value: Any) -> str:
    """Returns a mapping as YAML, in the order that it has."""
    import yaml

    text: str = yaml.dump(
        value, Dumper=_dumper(), sort_keys=False, default_flow_style=False, width=100, allow_unicode=True
    )
    return text


def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes text in quotes where a reader might take it for something else, and never an alias."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            return super().increase_indent(flow, False)

    return Dumper
