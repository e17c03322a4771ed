# SPDX-License-Identifier: Apache-2.0
# make demo       installs what the engine needs, builds it, shows what it does
# make test       installs the rest, builds everything, runs all fast tests and checks
# make test-long  fuzzers, sanitizers, the kill series, the full oracle tests
# make install    engine, headers, programs (PREFIX=/usr/local)
PREFIX ?= /usr/local

.PHONY: demo engine everything test test-long check format install bench clean

demo: engine
	build/release/muster demo --atlas build/atlas.html

engine:
	tools/install-packages engine
	cmake --preset release >/dev/null
	cmake --build --preset release

everything:
	tools/install-packages engine train test
	cmake --preset test >/dev/null
	cmake --build --preset test

test: everything
	tests/run.sh

test-long: everything
	tests/run-long.sh

check:
	tools/check.sh

format:
	clang-format-16 -i $$(git ls-files '*.h' '*.cpp')

bench: everything
	for program in build/test/bench/bench_moe_* build/test/bench/bench_routing; do $$program || exit; done

install: engine
	cmake --install build/release --prefix $(PREFIX)

clean:
	rm -rf build
