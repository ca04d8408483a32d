# Wherry's own two commands are `make demo` and `make test`. Both install what they need on a bare Debian 12
# with python3 and make, as root, say what they do, and skip what is already there.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The distribution's own interpreter where there is one: it starts faster than a version manager's shim.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
PYTEST := $(BIN)/python -m pytest
export PYTHONDONTWRITEBYTECODE :=

# What the product needs at run time, what the demo shows with, what the tests compare with.
RUN_PACKAGES := python3-venv ca-certificates nftables iproute2
DEMO_PACKAGES := chromium fonts-dejavu-core libatomic1 mmdebstrap ostree
TEST_PACKAGES := bc bison btrfs-progs buildah busybox-static cpio crun curl docker-compose docker-registry dosfstools dpkg-dev e2fsprogs erofs-utils faketime \
	fdisk fish flex gcc git golang-github-containers-common golang-go hyperfine kmod libc6-dev libelf-dev libseccomp2 make mmdebstrap mtools nginx-light openssh-client \
	openssh-server openssl ostree-tests ovmf patch podman qemu-efi-aarch64 qemu-system-arm qemu-system-x86 qemu-user-static qemu-utils rpm runc skopeo slirp4netns \
	squashfs-tools squashfuse strace systemd-boot-efi tini u-boot-qemu u-boot-tools uidmap umoci user-mode-linux xfsprogs xz-utils zsh zstd

# The engines that a start is compared with, and a compiler for the floor.
ENGINE_BENCH_PACKAGES := bubblewrap busybox-static containerd crun docker.io gcc golang-github-containers-common libc6-dev lxc \
	podman runc systemd-container
# What images are pulled, kept, built and packed with elsewhere.
IMAGE_BENCH_PACKAGES := buildah docker-registry golang-github-containers-common mmdebstrap ostree podman runc skopeo \
	squashfs-tools
# What hosts and their images are built with elsewhere.
BUILD_BENCH_PACKAGES := cpio debootstrap dosfstools dpkg e2fsprogs erofs-utils fdisk git kmod make mkosi mmdebstrap mtools squashfs-tools \
	systemd-boot-efi systemd-container xz-utils zstd
DELTA_BENCH_PACKAGES := casync mmdebstrap ostree xdelta3 zstd
OCI_TEST_PACKAGES := crun gcc golang-go libc6-dev libseccomp-dev runc user-mode-linux util-linux
OSTREE_TEST_PACKAGES := attr cpio gnupg openssl ostree ostree-tests strace

# $(call apt,LIST): installs what is missing of LIST.
define apt
@missing=$$(comm -23 <(printf '%s\n' $(1) | sort -u) \
	<(dpkg-query -W -f='$${Package} $${db:Status-Status}\n' $(1) 2>/dev/null | sed -n 's/ installed$$//p' | sort -u)); \
if [ -n "$$missing" ]; then \
	echo "==> apt: installing" $$missing; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >$(BUILD)/apt.log 2>&1 \
		|| { tail -n 20 $(BUILD)/apt.log >&2; exit 1; }; \
else \
	echo "==> apt: all $(words $(1)) packages are there"; \
fi
endef

.PHONY: help
help: ## Show these targets
	@echo "Wherry: one signed revision for a whole Linux device."
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(BUILD) apt-demo venv-test ## The main job, told as a story (KEEP=1 leaves the dashboard running)
	@$(BIN)/python -u examples/demo/demo.py $(if $(KEEP),--keep)

.PHONY: test
test: $(BUILD) apt-test venv-test lint ## Everything that a change must pass (as root)
	@$(BIN)/python -u tests/leftovers.py --save $(BUILD)/leftovers.before
	@echo "==> unit and property tests"
	@$(PYTEST) -q tests/unit tests/property tests/arch -m "not deep"
	@echo "==> compat and integration tests (real tools, namespaces)"
	@$(PYTEST) -q tests/compat tests/integration -m "not deep"
	@echo "==> end-to-end tests (hub, device, browser)"
	@$(PYTEST) -q tests/e2e -m "not deep"
	@echo "==> what the suite left behind"
	@$(BIN)/python -u tests/leftovers.py --compare $(BUILD)/leftovers.before

.PHONY: test-deep
test-deep: $(BUILD) apt-test venv-test ## The long suites: every crash point, fuzzing, full matrices
	@$(PYTEST) -q tests -m deep
	@$(PYTEST) -q tests/property tests/compat/composefs/test_erofs_utils.py tests/integration/composefs/test_mount.py -m "not deep" --hypothesis-profile=deep

.PHONY: test-ostree
test-ostree: $(BUILD) apt-ostree venv-test ## Upstream's tests of ostree, with `wherry store` in its place
	@$(BIN)/python -u tests/conformance/ostree/run.py $(if $(ORACLE),--oracle) $(FILES)

.PHONY: test-oci
test-oci: $(BUILD) apt-oci venv-test ## crun's tests and runtime-tools' validation, with `wherry runtime` (SUITES=DIR has their checkouts)
	@$(BIN)/python -u tests/conformance/oci/run.py $(if $(SUITES),--suites $(SUITES)) $(FILES)
	@$(if $(SUITES),$(BIN)/python -u tests/conformance/oci/run.py --suites $(SUITES) --guest $(FILES))
	@$(if $(ORACLE),for runtime in crun runc; do for where in "" --guest; do \
		$(BIN)/python -u tests/conformance/oci/run.py --suites $(SUITES) --runtime $$runtime $$where $(FILES); done; done)

.PHONY: fuzz
fuzz: $(BUILD) venv-test ## Hostile bytes for every reader (SECONDS=600, TARGETS="codec summary")
	@$(BIN)/python -u -m tests.fuzz.run --seconds $(or $(SECONDS),60) $(TARGETS)

.PHONY: unit
unit: $(BUILD) venv-test ## Only the tests that need no root and no tools
	@$(PYTEST) -q tests/unit tests/property tests/arch -m "not deep"

.PHONY: lint
lint: venv-test ## ruff, mypy --strict, the import contracts
	@echo "==> ruff"
	@$(BIN)/ruff check --quiet src tests benchmarks examples docs
	@$(BIN)/ruff format --quiet --check src tests benchmarks examples docs
	@echo "==> mypy --strict"
	@$(BIN)/mypy --no-error-summary
	@echo "==> import contracts"
	@$(BIN)/lint-imports --no-logo --verbose 2>&1 | tail -n 6

.PHONY: format
format: venv-test ## Lay the code out
	@$(BIN)/ruff check --quiet --fix src tests benchmarks examples docs
	@$(BIN)/ruff format --quiet src tests benchmarks examples docs

.PHONY: bench
bench: $(BUILD) apt-test venv-test ## Speed, as ratios to the real peers in one run
	@$(BIN)/python -u -m benchmarks.run

.PHONY: bench-store
bench-store: $(BUILD) apt-test venv-test ## The store beside the real ostree: seconds, ratios, memory (ROWS=..., as root)
	@$(BIN)/python -u -m benchmarks.store $(ROWS)

.PHONY: bench-engine
bench-engine: $(BUILD) apt-engine venv-test ## Starts of containers beside crun, runc, podman, docker ... (TABLES="cold exec", as root)
	@$(BIN)/python -u -m benchmarks.engine.run $(TABLES)

.PHONY: bench-image
bench-image: $(BUILD) apt-image venv-test ## Pulls, disk, builds and packed apps beside podman and skopeo (TABLES="pull disk", as root)
	@$(BIN)/python -u -m benchmarks.image.run $(TABLES)

.PHONY: bench-build
bench-build: $(BUILD) apt-build venv-test ## Hosts built beside mmdebstrap and mkosi, layers beside SkiffOS' scripts (TABLES="minimal resolve", as root)
	@$(BIN)/python -u -m benchmarks.build.run $(TABLES)

.PHONY: bench-delta
bench-delta: $(BUILD) apt-delta venv-test ## What an update costs, beside OSTree, casync, xdelta3, zstd (PAIRS=..., SMALL=1, as root)
	@$(BIN)/python -u -m benchmarks.delta $(if $(SMALL),--small) $(PAIRS)

.PHONY: docs
docs: venv-test ## Write the generated reference pages; check every link
	@$(BIN)/python -u docs/generate.py

.PHONY: requirements
requirements: ## Pin requirements/*.in anew, with hashes
	@$(PYTHON) -m venv $(BUILD)/uv && $(BUILD)/uv/bin/pip install --quiet uv
	@for set in run hub build images host test; do \
		$(BUILD)/uv/bin/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
			--python-version 3.11 --custom-compile-command "make requirements" \
			requirements/$$set.in --output-file requirements/$$set.txt; done

.PHONY: clean
clean: ## Remove what was built; keep the downloads
	rm -rf $(BUILD)/demo $(BUILD)/leftovers.before .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BUILD):
	@mkdir -p $(BUILD)/cache

.PHONY: apt-demo apt-test apt-ostree apt-oci apt-delta apt-engine apt-image apt-build
apt-demo: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(DEMO_PACKAGES))
apt-ostree: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(OSTREE_TEST_PACKAGES))
apt-delta: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(DELTA_BENCH_PACKAGES))
apt-engine: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(ENGINE_BENCH_PACKAGES))
apt-image: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(IMAGE_BENCH_PACKAGES))
apt-build: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(BUILD_BENCH_PACKAGES))
apt-oci: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(if $(SUITES),$(OCI_TEST_PACKAGES)))
apt-test: | $(BUILD)
	$(call apt,$(RUN_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES))

.PHONY: venv-hub venv-test
venv-hub: $(VENV)/.installed-hub
	@echo "==> python: $$($(BIN)/wherry --version), $$($(BIN)/python --version)"
venv-test: $(VENV)/.installed-test

$(VENV)/.installed-hub: requirements/hub.txt requirements/build.txt pyproject.toml
	$(call venv,hub build)
$(VENV)/.installed-test: requirements/test.txt pyproject.toml
	$(call venv,test)
	@touch $(VENV)/.installed-hub

# $(call venv,SETS): the virtual environment with the pinned and hashed packages, and Wherry itself, editable.
define venv
@echo "==> python: installing the pinned packages ($(1))"
@$(PYTHON) -m venv $(VENV)
@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes $(foreach set,$(1),-r requirements/$(set).txt)
@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
@touch $@
endef
