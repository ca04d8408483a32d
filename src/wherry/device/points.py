"""Every trace point of the device, by name: the places between two durable steps of an update.

Whoever adds an effect adds a point; the crash test kills the agent at each one of this list and looks at what
a restart makes of it (``docs/internals/trace-points.md``).
"""

from __future__ import annotations

import enum

from wherry.core import trace


class Point(enum.StrEnum):
    """Where a test may stop the device."""

    KEY_WRITTEN = "device.enrol.key-written"
    ENROL_ANSWERED = "device.enrol.answered"
    IDENTITY_WRITTEN = "device.enrol.identity-written"

    STARTED = "device.agent.started"
    RECONCILED = "device.agent.reconciled"
    REPORTED = "device.agent.reported"
    ASKED = "device.agent.asked"
    REQUEST_TAKEN = "device.agent.request-taken"

    STATE_BEFORE = "device.state.before-write"
    STATE_AFTER = "device.state.after-write"

    PLAN_BEGUN = "device.plan.begun"
    PLAN_REVISION = "device.plan.revision-fetched"
    PLAN_DONE = "device.plan.done"
    FETCH_BEGUN = "device.fetch.begun"
    FETCH_DONE = "device.fetch.done"
    VERIFY_BEGUN = "device.verify.begun"
    VERIFY_DONE = "device.verify.done"

    STAGE_BEGUN = "device.stage.begun"
    STAGE_CONFIG_WRITTEN = "device.stage.config-written"
    STAGE_CONFIG_NAMED = "device.stage.config-named"
    STAGE_DEPLOYMENT_NAMED = "device.stage.deployment-named"
    STAGE_CREATED = "device.stage.container-created"
    STAGE_DONE = "device.stage.done"

    SWITCH_BEGUN = "device.switch.begun"
    SWITCH_STOPPING = "device.switch.stopping"
    SWITCH_STOPPED = "device.switch.stopped"
    SWITCH_STARTING = "device.switch.starting"
    SWITCH_STARTED = "device.switch.started"
    SWITCH_DONE = "device.switch.done"

    TEST_BEGUN = "device.test.begun"
    TEST_PASSED = "device.test.passed"

    RESTORE_BEGUN = "device.restore.begun"
    RESTORE_DONE = "device.restore.done"

    CLEAN_BEGUN = "device.clean.begun"
    CLEAN_CONTAINERS = "device.clean.containers-removed"
    CLEAN_DEPLOYMENTS = "device.clean.deployments-removed"
    CLEAN_STORE = "device.clean.store-pruned"


def reach(point: Point) -> None:
    """Says that the device is at `point`."""
    trace.reach(point.value)
