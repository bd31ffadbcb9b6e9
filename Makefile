# make            the release binary, build/release/sotto
# make demo       all of it from a bare clone, then a transcript, its plan and planned against actual memory
#                 make demo AUDIO=my.wav   MODEL=directory   MEMORY=64MiB
# make test       every test that needs no torch (under 15 minutes on 2 cores)
# make test-full  sanitizers, ARM64 under qemu, format, clang-tidy, goldens made again: STAGES="tsan tidy" picks
# make python     the Python package as a wheel, build/wheel
# make bench      the speed tables     make format  clang-format over our sources     make clean
# Packages that are missing are installed first (scripts/setup; SOTTO_SKIP_SETUP=1 leaves them alone). JOBS=n limits the build.
.DEFAULT_GOAL := build
.PHONY: all build demo test test-full python bench format clean setup
SHELL := /bin/bash
BUILD := build/release
JOBS ?= $(shell nproc)

all: build

setup:
	@scripts/setup

build: setup
	@cmake --preset release --log-level=WARNING >/dev/null
	@cmake --build --preset release -j $(JOBS)

demo: build
	@scripts/demo

test: build
	@scripts/run_tests $(BUILD)

test-full:
	@scripts/setup --full
	@JOBS=$(JOBS) scripts/test_full $(STAGES)

python:
	@python3 -m venv build/wheel/venv
	@build/wheel/venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@ls -l build/wheel/*.whl

bench: build
	@scripts/bench

format:
	@command -v clang-format >/dev/null || { echo "clang-format is missing; scripts/setup --full installs it" >&2; exit 1; }
	@scripts/sources | xargs clang-format -i

clean:
	@rm -rf build
