"""Every key of a Compose file: how it is read, or why it is refused.

The tables are the reference (docs/reference/compose.md is checked against them). Source: compose-spec, "05-services.md"
to "09-secrets.md", "deploy.md", and the keys of its JSON schema.
"""

from __future__ import annotations

from wherry.engine.compose import buildforms, forms
from wherry.engine.compose import readers as read
from wherry.engine.compose.readers import Reader

_RATE = read.many(read.fields({"path": read.word, "rate": read.size}, need=("path", "rate")))
_WEIGHT = read.many(read.fields({"path": read.word, "weight": read.whole(10, 1000)}, need=("path", "weight")))

HEALTHCHECK: dict[str, Reader] = {
    "test": forms.healthcheck_test,
    "interval": read.duration,
    "timeout": read.duration,
    "retries": read.whole(1, 10_000),
    "start_period": read.duration,
    "start_interval": read.duration,
    "disable": read.boolean,
}

BLKIO: dict[str, Reader] = {
    "weight": read.whole(10, 1000),
    "weight_device": _WEIGHT,
    "device_read_bps": _RATE,
    "device_write_bps": _RATE,
    "device_read_iops": _RATE,
    "device_write_iops": _RATE,
}

_LIMITS: dict[str, Reader] = {"cpus": read.cpus, "memory": read.size, "pids": read.whole(-1)}
_RESERVATIONS: dict[str, Reader] = {"cpus": read.cpus, "memory": read.size}
_DEVICES = "name the nodes under devices"

DEPLOY: dict[str, Reader] = {
    "mode": read.choice("replicated"),
    "replicas": read.whole(0, 1000),
    "labels": read.labels,
    "resources": read.fields(
        {
            "limits": read.fields(_LIMITS),
            "reservations": read.fields(_RESERVATIONS, {"devices": _DEVICES, "generic_resources": _DEVICES}),
        }
    ),
    "restart_policy": read.fields(
        {"condition": read.choice("none", "on-failure", "any"), "max_attempts": read.whole(0, 1_000_000)},
        {
            "delay": "restarts are put off by themselves, the longer the oftener",
            "window": "a run of ten seconds counts as a start that went well",
        },
    ),
}
DEPLOY_REFUSED = {
    "endpoint_mode": "a name leads to each container of a service",
    "placement": "there is one machine",
    "rollback_config": "containers are replaced one after the other",
    "update_config": "containers are replaced one after the other",
}

BUILD: dict[str, Reader] = {
    "additional_contexts": buildforms.contexts,
    "args": read.pairs,
    "cache_from": read.many(read.word),
    "cache_to": read.many(read.word),
    "context": buildforms.context,
    "dockerfile": read.word,
    "dockerfile_inline": read.text,
    "extra_hosts": forms.extra_hosts,
    "labels": read.labels,
    "network": read.choice("default", "none", "host", "bridge"),
    "no_cache": read.boolean,
    "no_cache_filter": read.one_or_many(read.word),
    "platforms": read.many(read.word),
    "pull": read.boolean,
    "secrets": read.many(buildforms.secret),
    "shm_size": read.size,
    "ssh": buildforms.agents,
    "tags": read.many(read.word),
    "target": read.word,
    "ulimits": read.table(forms.ulimit),
}
BUILD_REFUSED = {
    "entitlements": "RUN gets no more than a container has by itself",
    "isolation": "that is for Windows",
    "privileged": "RUN gets no more than a container has by itself",
    "provenance": "two builds of the same inputs give one image: build it again and compare",
    "sbom": "`wherry image sbom` lists what is in an image",
}

SERVICE: dict[str, Reader] = {
    "annotations": read.labels,
    "attach": read.boolean,
    "blkio_config": read.fields(BLKIO),
    "build": buildforms.build(BUILD, BUILD_REFUSED),
    "cap_add": read.many(read.capability),
    "cap_drop": read.many(read.capability),
    "cgroup": read.choice("host", "private"),
    "cgroup_parent": read.word,
    "command": read.words,
    "configs": read.many(forms.granted("")),
    "container_name": read.word,
    "cpu_period": read.microseconds,
    "cpu_quota": read.microseconds,
    "cpu_rt_period": read.microseconds,
    "cpu_rt_runtime": read.microseconds,
    "cpu_shares": read.whole(),
    "cpus": read.cpus,
    "cpuset": read.word,
    "depends_on": forms.depends_on,
    "deploy": read.fields(DEPLOY, DEPLOY_REFUSED),
    "device_cgroup_rules": read.many(read.word),
    "devices": read.many(forms.device),
    "dns": read.one_or_many(read.word),
    "dns_opt": read.many(read.word),
    "dns_search": read.one_or_many(read.word),
    "domainname": read.word,
    "entrypoint": read.words,
    "env_file": read.one_or_many(forms.env_file),
    "environment": read.pairs,
    "expose": read.many(forms.expose),
    "extra_hosts": forms.extra_hosts,
    "group_add": read.many(read.word),
    "healthcheck": read.fields(HEALTHCHECK),
    "hostname": read.word,
    "image": read.word,
    "init": read.boolean,
    "ipc": forms.service_or("private", "host", "none", "shareable"),
    "label_file": read.one_or_many(read.path),
    "labels": read.labels,
    "links": read.many(read.word),
    "logging": read.fields({"driver": read.word, "options": read.labels}),
    "mac_address": read.word,
    "mem_limit": read.size,
    "mem_reservation": read.size,
    "mem_swappiness": read.whole(0, 100),
    "memswap_limit": read.size,
    "network_mode": forms.service_or("bridge", "none", "host"),
    "networks": forms.networks,
    "oom_kill_disable": read.boolean,
    "oom_score_adj": read.whole(-1000, 1000),
    "pid": forms.service_or("private", "host"),
    "pids_limit": read.whole(-1),
    "platform": read.word,
    "ports": read.many(forms.port),
    "privileged": read.boolean,
    "profiles": read.many(read.word),
    "pull_policy": read.choice("always", "missing", "if_not_present", "never", "build"),
    "read_only": read.boolean,
    "restart": forms.restart,
    "scale": read.whole(0, 1000),
    "secrets": read.many(forms.granted("/run/secrets")),
    "security_opt": read.many(read.word),
    "shm_size": read.size,
    "stdin_open": read.boolean,
    "stop_grace_period": read.duration,
    "stop_signal": read.word,
    "sysctls": read.labels,
    "tmpfs": read.one_or_many(read.word),
    "tty": read.boolean,
    "ulimits": read.table(forms.ulimit),
    "user": read.text,
    "userns_mode": read.choice("host"),
    "uts": read.choice("private", "host"),
    "volumes": read.many(forms.volume),
    "volumes_from": read.many(read.word),
    "working_dir": read.guest_path,
}

SERVICE_REFUSED = {
    "cpu_count": "that is for Windows; use cpus",
    "cpu_percent": "that is for Windows; use cpus",
    "credential_spec": "that is for Windows",
    "develop": "sources are not watched; bind them with volumes:",
    "external_links": "put both on one network, and use the container's name",
    "gpus": "there is no hook of a vendor: name the nodes under devices, and mount the libraries",
    "isolation": "that is for Windows",
    "models": "there is no runner of models: write a service",
    "post_start": "hooks of a service are not there yet; use `wherry compose exec`",
    "pre_stop": "hooks of a service are not there yet; let the command handle its stop signal",
    "provider": "no programs of others are called",
    "pull_refresh_after": "nothing looks for new images by itself: pull_policy: always, or `wherry compose pull`",
    "runtime": "the runtime is Wherry's own",
    "storage_opt": "the root is an overlay, which has no limit of its own; put data on a volume",
    "use_api_socket": "there is no daemon, and so no socket",
}
"""Keys of the specification -> why they are not there, and what to do."""

EXTENDS = read.fields({"service": read.word, "file": read.path}, need=("service",))
NOT_MERGED = ("extends",)
"""Keys of a service that are dealt with before the table is used."""

NETWORK: dict[str, Reader] = {
    "attachable": read.boolean,
    "driver": read.choice("bridge", "macvlan"),
    "driver_opts": read.labels,
    "enable_ipv6": read.boolean,
    "external": read.external,
    "internal": read.boolean,
    "ipam": read.fields(
        {
            "driver": read.choice("default"),
            "config": read.many(
                read.fields(
                    {"subnet": read.word, "gateway": read.word, "ip_range": read.word},
                    {"aux_addresses": "give the containers fixed addresses instead"},
                )
            ),
        },
        {"options": "the driver of addresses has none"},
    ),
    "labels": read.labels,
    "name": read.word,
}
NETWORK_REFUSED = {"enable_ipv4": "every network has IPv4"}
VOLUME: dict[str, Reader] = {
    "driver": read.choice("local"),
    "driver_opts": read.labels,
    "external": read.external,
    "labels": read.labels,
    "name": read.word,
}
CONFIG: dict[str, Reader] = {
    "content": read.text,
    "environment": read.word,
    "file": read.path,
    "labels": read.labels,
    "name": read.word,
}
CONFIG_REFUSED = {
    "external": "there are no configs outside of a project: use file, or a secret",
    "template_driver": "use variables of Compose",
}
SECRET: dict[str, Reader] = {
    "environment": read.word,
    "external": read.external,
    "file": read.path,
    "labels": read.labels,
    "name": read.word,
}
SECRET_REFUSED = {
    "driver": "secrets are files",
    "driver_opts": "secrets are files",
    "template_driver": "use variables of Compose",
}

INCLUDE = read.fields(
    {
        "path": read.one_or_many(read.path),
        "project_directory": read.path,
        "env_file": read.one_or_many(read.path),
    },
    need=("path",),
)

TOP: dict[str, Reader] = {
    "networks": read.table(read.fields(NETWORK, NETWORK_REFUSED), empty=True),
    "volumes": read.table(read.fields(VOLUME), empty=True),
    "configs": read.table(read.fields(CONFIG, CONFIG_REFUSED), empty=True),
    "secrets": read.table(read.fields(SECRET, SECRET_REFUSED), empty=True),
}
TOP_KEYS = frozenset({*TOP, "name", "version", "services", "include"})
TOP_REFUSED = {"models": "there is no runner of models: write a service"}
