# vetting: the only entry points. CI calls the same ones.
#
#   make demo     vet three emulated machines, from power-on to report
#   make test     everything that decides whether a change is good, real netboots included
#   make check    formatting, lints, import walls, licences
#   make image    the live image: kernel + initramfs, disc and USB stick, into target/image
#   make deb      coordinator and agent as Debian packages, into target/debian
#   make fuzz-api the API, asked by schemathesis for five minutes (FUZZ_SECONDS)
#   make openapi  docs/api/openapi.json anew, after a change of the API
#   make bench    ratios against what else does the job, side by side in one run
#
# Each target installs what it needs (Debian 12 or later, as root) and says what that was.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test check image bench openapi deb fuzz-api build share agent packages musl nextest emulators

MUSL_TARGET := x86_64-unknown-linux-musl
AGENT       := target/$(MUSL_TARGET)/release/vetting-agent
IMAGE_TOOL  := target/release/vetting-image
COORDINATOR := target/release/vetting-coordinator
FUZZ_SECONDS := 300
# A copy of the standard library's source beside the checkout spares the download.
MUSL_STD_SRC ?= $(firstword $(wildcard ../shared/vendor/rust-std-*-src.tar.xz))

# Host packages: the C compiler for musl, the image builder's tools, QEMU with its firmware, and what tests compare with.
PACKAGES := musl-tools gcc binutils libc6-dev zstd kmod xz-utils cpio squashfs-tools xorriso mtools dosfstools debian-archive-keyring \
            qemu-system-x86 qemu-utils ovmf ipxe-qemu iproute2 dnsmasq-base \
            smartmontools fio iperf3 stress-ng e2fsprogs util-linux openipmi ipmitool openssh-client python3-venv \
            adduser dpkg-dev libvulkan1 mesa-vulkan-drivers python3-aiosmtpd snmp snmpd chromium chromium-driver fonts-dejavu-core fonts-liberation
BENCH_PACKAGES := lshw prometheus-node-exporter

demo: build image
	target/release/vetting-demo

test: build image deb nextest emulators
	cargo nextest run --workspace --no-fail-fast
	cargo nextest run --workspace --profile qemu --no-fail-fast

check: packages
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny
	cargo deny --log-level error check bans licenses sources

image: build
	$(IMAGE_TOOL) build --agent $(AGENT)

openapi: nextest
	UPDATE_OPENAPI=1 cargo nextest run --package vetting-coordinator --lib openapi::the_document

bench: build image
	@$(MAKE) --no-print-directory packages PACKAGES="$(BENCH_PACKAGES)"
	target/release/vetting-bench

deb: build
	@cargo deb --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deb
	cargo deb --quiet --no-build --package vetting-coordinator --output target/debian/
	cargo deb --quiet --no-build --package vetting-agent --target $(MUSL_TARGET) --output target/debian/

fuzz-api: packages target/tools/fuzz-api/.installed
	cargo build --package vetting-coordinator
	coordinator/fuzz/api.sh target/debug/vetting-coordinator target/tools/fuzz-api/bin/schemathesis $(FUZZ_SECONDS)

target/tools/fuzz-api/.installed: coordinator/fuzz/api-requirements.txt
	python3 -m venv target/tools/fuzz-api
	target/tools/fuzz-api/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

build: packages agent
	cargo build --release --workspace --exclude vetting-agent
	@$(MAKE) --silent --no-print-directory share

# Manual pages and completions of the coordinator's command line.
share:
	rm -rf target/share
	mkdir -p target/share/completions
	$(COORDINATOR) man target/share/man/man1
	for shell in bash fish zsh; do $(COORDINATOR) completions $$shell > target/share/completions/vetting-coordinator.$$shell || exit; done

agent: packages musl
	cargo build --release --package vetting-agent --target $(MUSL_TARGET)

packages:
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages:" $$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

musl:
	@MUSL_STD_SRC="$(MUSL_STD_SRC)" agent/musl-toolchain.sh

# A Redfish service for tests, in a folder of its own.
emulators: packages target/tools/emulators/.installed

target/tools/emulators/.installed: tests/emulators.txt
	python3 -m venv target/tools/emulators
	target/tools/emulators/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

nextest:
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-nextest
