# Everything a person types. Each target is one script or one xtask, so that all of it also works without make.

PREFIX ?= $(HOME)/.local
export PREFIX

.PHONY: demo serve test bench install image help

help:
	@echo "make demo     install what is missing, build, start, smoke test, first chat, then serve until Ctrl-C"
	@echo "make serve    build and serve (MMS_ARGS='--config mms.toml' and the like are passed on)"
	@echo "make test     everything CI runs: fmt, clippy, tidy, licences, tests (pyzmq, openai), the container"
	@echo "make bench    release build; all figures of docs/benchmarks.md, about 15 minutes"
	@echo "make install  release build; mms and mms-worker to PREFIX/bin [$(PREFIX)/bin]"
	@echo "make image    container image mms:latest (needs a Docker engine)"

demo:
	@scripts/demo.sh

serve:
	@scripts/setup-build.sh
	cargo build
	exec target/debug/mms serve $(MMS_ARGS)

test:
	@scripts/setup-build.sh
	@scripts/setup-test.sh
	cargo xtask ci

bench:
	@scripts/setup-build.sh
	cargo xtask bench

install:
	@scripts/setup-build.sh
	scripts/install.sh

image:
	@scripts/setup-build.sh
	scripts/build-image.sh
