"""Every key of the specification's JSON schema is read or refused with a reason, and stands in the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from wherry.cli.compose import REFUSED, compose
from wherry.engine.compose import schema

REFERENCE = Path(__file__).parents[4] / "docs/reference/compose.md"

SERVICE_KEYS = """
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name
    cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec
    depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file
    environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation
    label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models
    network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged
    profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt shm_size
    stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts
    volumes volumes_from working_dir
"""
"""Of compose-spec.json, the definition `service`, in 2026."""
OTHERS: dict[str, tuple[str, Mapping[str, object]]] = {
    "deploy": (
        "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config",
        {**schema.DEPLOY, **schema.DEPLOY_REFUSED},
    ),
    "build": (
        """additional_contexts args cache_from cache_to context dockerfile dockerfile_inline entitlements extra_hosts
        isolation labels network no_cache no_cache_filter platforms privileged provenance pull sbom secrets shm_size
        ssh tags target ulimits""",
        {**schema.BUILD, **schema.BUILD_REFUSED},
    ),
    "healthcheck": ("disable interval retries start_interval start_period test timeout", schema.HEALTHCHECK),
    "networks": (
        "attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name",
        {**schema.NETWORK, **schema.NETWORK_REFUSED},
    ),
    "volumes": ("driver driver_opts external labels name", schema.VOLUME),
    "secrets": (
        "driver driver_opts environment external file labels name template_driver",
        {**schema.SECRET, **schema.SECRET_REFUSED},
    ),
    "configs": (
        "content environment external file labels name template_driver",
        {**schema.CONFIG, **schema.CONFIG_REFUSED},
    ),
    "blkio_config": (
        "device_read_bps device_read_iops device_write_bps device_write_iops weight weight_device",
        schema.BLKIO,
    ),
}  # fmt: skip
COMMANDS = """
    attach build commit config convert cp create down events exec export images kill logs ls pause port ps publish pull
    push restart rm run scale start stats stop top unpause up version volumes wait watch
"""


def test_every_key_of_a_service_is_read_or_refused() -> None:
    read, refused = {*schema.SERVICE, "extends"}, set(schema.SERVICE_REFUSED)
    assert not read & refused
    assert read | refused == set(SERVICE_KEYS.split())
    assert all(schema.SERVICE_REFUSED.values())


@pytest.mark.parametrize("section", OTHERS)
def test_every_key_of_the_other_mappings(section: str) -> None:
    words, known = OTHERS[section]
    assert set(known) == set(words.split())


def test_every_key_at_the_top() -> None:
    expected = {"configs", "include", "models", "name", "networks", "secrets", "services", "version", "volumes"}
    assert {*schema.TOP_KEYS, *schema.TOP_REFUSED} == expected


def test_every_command_of_docker_compose_is_there_or_refused() -> None:
    assert set(compose.commands) == set(COMMANDS.split())
    assert {word for word, command in compose.commands.items() if command.hidden} == set(REFUSED)


def test_the_reference_has_them_all() -> None:
    services, _, builds = REFERENCE.read_text().partition("## `build`")
    expected = dict.fromkeys((*schema.SERVICE, "extends"), "done") | dict.fromkeys(schema.SERVICE_REFUSED, "refused")
    assert _rows(services) == expected
    assert _rows(builds) == dict.fromkeys(schema.BUILD, "done") | dict.fromkeys(schema.BUILD_REFUSED, "refused")


def _rows(text: str) -> dict[str, str]:
    """Returns the keys of a table's rows, of which each may have several, and whether they are there."""
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \| (done|refused) \|", text, re.MULTILINE)
    return {key: state for keys, state in rows for key in re.findall(r"[a-z_]+", keys)}
