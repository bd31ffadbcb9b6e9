.PHONY: all build
BUILD := build/release
all: build
build:
	@cmake --preset release >/dev/null && cmake --build --preset release
