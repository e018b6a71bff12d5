# SPDX-License-Identifier: BSD-2-Clause
# Every habit is a target; `make help` lists them.

CC ?= gcc
SANITIZE ?=
comma := ,
BUILD := build$(if $(SANITIZE),/sanitize-$(subst $(comma),-,$(SANITIZE)))

CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Wshadow -Wconversion -Werror
SANITIZE_FLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE $(WARN) -fvisibility=hidden -fstack-protector-strong $(CFLAGS) $(SANITIZE_FLAGS) -I. -MMD -MP -pthread
# The program is optimized as a whole; tests link the same objects as they are, which takes less time.
LTO := $(if $(SANITIZE),,-flto=auto)
LIBS := -lev -lhiredis -linih -lcares -lcrypto -lm

ROUTING := $(patsubst %.c,$(BUILD)/%.o,$(wildcard routing/*.c))
PROXY := $(patsubst %.c,$(BUILD)/%.o,$(wildcard proxy/*.c))
PROXY_WITHOUT_MAIN := $(filter-out $(BUILD)/proxy/main.o,$(PROXY))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*_test.c))

.PHONY: all
all: $(BUILD)/pointsman ## build build/pointsman

$(BUILD)/pointsman: $(PROXY) $(BUILD)/librouting.a
	$(CC) $(ALL_CFLAGS) $(LTO) -o $@ $(PROXY) $(BUILD)/librouting.a $(LDFLAGS) $(LIBS)

$(BUILD)/librouting.a: $(ROUTING)
	rm -f $@ && ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(if $(LTO),$(LTO) -ffat-lto-objects) -c -o $@ $<

# A unit test of routing/ links routing/ alone; tests/unit/proxy_*_test.c link the proxy's modules too.
$(BUILD)/unit/proxy_%: tests/unit/proxy_%.c $(PROXY_WITHOUT_MAIN) $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(PROXY_WITHOUT_MAIN) $(BUILD)/librouting.a -lcmocka $(LDFLAGS) $(LIBS)

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/librouting.a -lcmocka $(LDFLAGS)

# A world with a clock of its own, and the decisions of routing/ in it. All of it but main is in its unit test as well.
SIMULATION := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/simulation/*.c))
SIMULATION_WITHOUT_MAIN := $(filter-out $(BUILD)/tests/simulation/sim_main.o,$(SIMULATION))

$(BUILD)/simulation: $(SIMULATION) $(BUILD)/librouting.a
	$(CC) $(ALL_CFLAGS) -o $@ $(SIMULATION) $(BUILD)/librouting.a $(LDFLAGS)

$(BUILD)/unit/simulation_test: tests/unit/simulation_test.c $(SIMULATION_WITHOUT_MAIN) $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(SIMULATION_WITHOUT_MAIN) $(BUILD)/librouting.a -lcmocka $(LDFLAGS)

# Load at times fixed in advance, for benchmarks. All of it but main is in its unit test as well.
OPENLOOP := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/bench/openloop/*.c))
OPENLOOP_WITHOUT_MAIN := $(filter-out $(BUILD)/tests/bench/openloop/main.o,$(OPENLOOP))

$(BUILD)/openloop: $(OPENLOOP)
	$(CC) $(ALL_CFLAGS) -o $@ $(OPENLOOP) $(LDFLAGS) -lm

$(BUILD)/unit/openloop_test: tests/unit/openloop_test.c $(OPENLOOP_WITHOUT_MAIN)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(OPENLOOP_WITHOUT_MAIN) -lcmocka $(LDFLAGS) -lm

# What a benchmark sees a proxy beside: moves bytes and parses nothing.
$(BUILD)/floor: tests/bench/floor.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(LDFLAGS)

# Small programs that integration tests ask, each of one file.
$(BUILD)/%: tests/integration/tools/%.c $(PROXY_WITHOUT_MAIN) $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(PROXY_WITHOUT_MAIN) $(BUILD)/librouting.a $(LDFLAGS) $(LIBS)

TEST_TOOLS := $(patsubst tests/integration/tools/%.c,$(BUILD)/%,$(wildcard tests/integration/tools/*.c))

# A module for redis-server, so without sanitizers.
$(BUILD)/%.so: tests/integration/module/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -fvisibility=hidden -O2 -g -shared -fPIC -o $@ $<

TEST_MODULES := $(patsubst tests/integration/module/%.c,$(BUILD)/%.so,$(wildcard tests/integration/module/*.c))

.PHONY: test-programs
test-programs: $(UNIT_TESTS) $(BUILD)/openloop $(BUILD)/floor $(TEST_TOOLS) $(TEST_MODULES)

.PHONY: unit
unit: $(UNIT_TESTS) ## run the unit tests alone
	@for t in $(UNIT_TESTS); do $$t || exit 1; done

# Debian packages by name; what is there already is not touched.
BUILD_PACKAGES := gcc libc6-dev libev-dev libhiredis-dev libinih-dev libc-ares-dev libssl-dev uthash-dev
REDIS_PACKAGES := redis-server redis-sentinel redis-tools python3 python3-redis
TEST_PACKAGES := $(REDIS_PACKAGES) nutcracker libcmocka-dev python3-pytest python3-pytest-xdist haproxy strace valgrind procps util-linux php-cli php-redis ruby ruby-redis

.PHONY: deps
deps: ## install what the build needs
	@sh tests/install.sh $(BUILD_PACKAGES)

.PHONY: test-deps
test-deps: ## install what the tests need
	@sh tests/install.sh $(TEST_PACKAGES)
	@command -v node >/dev/null && command -v npm >/dev/null || sh tests/install.sh nodejs npm

.PHONY: test
test: ## install, build, run every test (SANITIZE=address,undefined or thread; TESTS=pattern)
	@SANITIZE="$(SANITIZE)" TESTS="$(TESTS)" MAKE="$(MAKE)" tests/run

SEEDS ?= 2000

.PHONY: simulation
simulation: $(BUILD)/simulation ## simulated nodes, Sentinels, faults (SEEDS=2000; SEED=N: again; NODES=1000 CLIENTS=100000; GROW=1)
	@$(BUILD)/simulation --seeds=$(SEEDS) $(if $(SEED),--seed=$(SEED)) $(if $(NODES),--nodes=$(NODES)) \
		$(if $(CLIENTS),--clients=$(CLIENTS)) $(if $(GROW),--grow) $(if $(TELL),--tell) $(if $(MUTATION),--mutation=$(MUTATION))

DIFFERENTIAL_SECONDS ?= 300

.PHONY: differential
differential: $(BUILD)/pointsman ## random commands, to Redis and through pointsman (DIFFERENTIAL_SECONDS=300, DIFFERENTIAL_SEED=N)
	@sh tests/install.sh $(REDIS_PACKAGES)
	@POINTSMAN=$(CURDIR)/$(BUILD)/pointsman SANITIZE="$(SANITIZE)" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 \
		tests/integration/differential.py --seconds $(DIFFERENTIAL_SECONDS) $(if $(DIFFERENTIAL_SEED),--seed $(DIFFERENTIAL_SEED)) \
		$(DIFFERENTIAL_FLAGS)

# Faults with real processes; what was seen is in $(BUILD)/chaos. Under ThreadSanitizer see tests/run.
CHAOS_SECONDS ?= 300
CHAOS_SEED ?= 1
CHAOS_PYTHON = POINTSMAN=$(CURDIR)/$(BUILD)/pointsman SANITIZE="$(SANITIZE)" PYTHONDONTWRITEBYTECODE=1 \
	$(if $(filter thread,$(SANITIZE)),setarch $$(uname -m) -R) /usr/bin/python3

.PHONY: chaos replica-share
chaos: $(BUILD)/pointsman ## faults, and what they do to what clients are told (CHAOS_SECONDS=300 CHAOS_SEED=N CHAOS_FAULTS=a,b SANITIZE=thread)
	@sh tests/install.sh $(REDIS_PACKAGES)
	@$(CHAOS_PYTHON) tests/chaos/chaos.py --seconds $(CHAOS_SECONDS) --seed $(CHAOS_SEED) --faults "$(CHAOS_FAULTS)" \
		--worlds "$(CHAOS_WORLDS)" --levels "$(CHAOS_LEVELS)" --output $(BUILD)/chaos

replica-share: $(BUILD)/pointsman ## share of reads that replicas answer, by level, keys and share of writes
	@sh tests/install.sh $(REDIS_PACKAGES)
	@$(CHAOS_PYTHON) tests/chaos/replica_share.py --output $(BUILD)/chaos/replica_share.json

.PHONY: demo
demo: ## Redis, Sentinels and pointsman on this machine, a failover to watch (KIND=cluster; DEMO_SECONDS=20: ends by itself)
	@sh tests/install.sh $(BUILD_PACKAGES) $(REDIS_PACKAGES)
	@$(MAKE) --no-print-directory -s all
	@DEMO_SECONDS="$(DEMO_SECONDS)" KIND="$(KIND)" BUILD="$(BUILD)" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 conf/demo.py

# Coverage-guided fuzzing, FUZZ_SECONDS for each tests/fuzz/NAME_fuzz.c, beginning with tests/fuzz/corpus/NAME.
# resp_fuzz links routing/ and hiredis; command_fuzz, cluster_view_fuzz, merge_fuzz and plan_fuzz routing/ alone; all
# others the proxy's modules as well. What is found on the way stays in build/fuzz; an input that fails is left there
# too, and its name printed.
FUZZ_SECONDS ?= 30
FUZZ_CC ?= clang
FUZZ_BUILD := build/fuzz
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,$(FUZZ_BUILD)/%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_SANITIZE := -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_COMPILE = $(FUZZ_CC) -std=c11 -D_GNU_SOURCE -g -O1 $(FUZZ_SANITIZE) -I. -pthread
FUZZ_PROXY := $(filter-out proxy/main.c,$(wildcard proxy/*.c))

$(FUZZ_BUILD)/resp_fuzz: tests/fuzz/resp_fuzz.c $(wildcard routing/*.[ch] tests/*.h)
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) -o $@ $< $(wildcard routing/*.c) $(LDFLAGS) -lhiredis

PURE_FUZZERS := $(addprefix $(FUZZ_BUILD)/,command_fuzz cluster_view_fuzz merge_fuzz plan_fuzz)
$(PURE_FUZZERS): $(FUZZ_BUILD)/%: tests/fuzz/%.c $(wildcard routing/*.[ch])
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) -o $@ $< $(wildcard routing/*.c) $(LDFLAGS)

# It has the module in it, whose readers are its own.
$(FUZZ_BUILD)/sentinel_fuzz: tests/fuzz/sentinel_fuzz.c $(wildcard routing/*.[ch] proxy/*.[ch])
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) -o $@ $< $(filter-out proxy/sentinel_peer.c,$(FUZZ_PROXY)) $(wildcard routing/*.c) $(LDFLAGS) $(LIBS)

$(FUZZ_BUILD)/%_fuzz: tests/fuzz/%_fuzz.c $(wildcard routing/*.[ch] proxy/*.[ch] tests/*.h)
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) -o $@ $< $(FUZZ_PROXY) $(wildcard routing/*.c) $(LDFLAGS) $(LIBS)

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS) ## fuzz each parser for FUZZ_SECONDS (30)
	@for t in $(FUZZ_TARGETS); do \
	    name=$$(basename $$t _fuzz); seeds=tests/fuzz/corpus/$$name; \
	    mkdir -p $(FUZZ_BUILD)/corpus/$$name; \
	    echo "fuzzing $$name for $(FUZZ_SECONDS) s"; \
	    $$t -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -print_final_stats=1 \
	        -artifact_prefix=$(FUZZ_BUILD)/$$name- $(FUZZ_BUILD)/corpus/$$name $$(test -d $$seeds && echo $$seeds) \
	        >$(FUZZ_BUILD)/$$name.log 2>&1 || { tail -40 $(FUZZ_BUILD)/$$name.log; exit 1; }; \
	    grep -E 'number_of_executed_units|new_units_added' $(FUZZ_BUILD)/$$name.log; \
	done

# Micro-benchmarks of routing/: each tests/bench/NAME_bench.c prints what one operation costs.
MICRO_BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*_bench.c))

$(BUILD)/bench/%: tests/bench/%.c $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/librouting.a $(LDFLAGS)

.PHONY: microbench
microbench: $(MICRO_BENCHES) ## nanoseconds per operation of the hot path
	@for b in $(MICRO_BENCHES); do $$b || exit 1; done

C_SOURCES = $(wildcard routing/*.c proxy/*.c tests/unit/*.c tests/fuzz/*.c tests/bench/*.c tests/bench/openloop/*.c tests/simulation/*.c)
C_HEADERS = $(wildcard routing/*.h proxy/*.h tests/*.h tests/bench/openloop/*.h tests/simulation/*.h)

.PHONY: lint
lint: ## clang-tidy with the checks of .clang-tidy
	clang-tidy --quiet $(C_SOURCES) -- -std=c11 -D_GNU_SOURCE -I.

.PHONY: format
format: ## bring the sources into the shape of .clang-format
	clang-format -i $(C_SOURCES) $(C_HEADERS)
# What the table of configuration keys prints; unit tests compare it with what is committed.
.PHONY: generated
generated: $(BUILD)/pointsman ## write proxy.ini.example and the keys of the manual page anew
	$(BUILD)/pointsman --help-config=ini > $(BUILD)/example && mv $(BUILD)/example proxy.ini.example
	$(BUILD)/pointsman --help-config=roff > $(BUILD)/keys.roff
	sed -i -e '/^\.\\" begin keys$$/,/^\.\\" end keys$$/{//!d}' -e '/^\.\\" begin keys$$/r $(BUILD)/keys.roff' \
		packaging/man/pointsman.8

.PHONY: clean
clean: ## remove everything built
	rm -rf build

.PHONY: help
help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | sort

-include $(shell find build -name '*.d' 2>/dev/null)

BENCH_POINTSMAN ?= $(BUILD)/pointsman
BENCH_SCENARIO ?= get_p1
BENCH_PYTHON = BENCH_POINTSMAN="$(BENCH_POINTSMAN)" BENCH_OPENLOOP="$(BUILD)/openloop" BENCH_FLOOR="$(BUILD)/floor" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3
BENCH = $(BENCH_PYTHON) tests/bench/bench.py
BENCH_TOOLS := redis-server:redis-server redis-benchmark:redis-tools taskset:util-linux

.PHONY: bench bench-readme bench-instructions bench-threads bench-fairness bench-profile
bench: $(BUILD)/pointsman $(BUILD)/openloop $(BUILD)/floor ## CPU per request and latency beside peers (QUICK=1: a first look; BENCH_SCENARIOS=a,b; RENEW=1: into README)
	@sh tests/bench/install-tools.sh $(BENCH_TOOLS) haproxy:haproxy nutcracker:nutcracker
	@$(BENCH) --json $(BUILD)/bench.json --chart $(BUILD)/bench.svg
	@$(if $(filter-out 0,$(RENEW)),$(BENCH) --renew $(BUILD)/bench.json)

BENCH_JSON ?= $(BUILD)/bench.json
bench-readme: ## README's table and chart from what make bench has left (BENCH_JSON="one.json more.json")
	@$(BENCH) --renew $(BENCH_JSON)

bench-instructions: $(BUILD)/pointsman $(BUILD)/openloop ## instructions, system calls, allocations per request, as expected? (RENEW=1: they are)
	@sh tests/bench/install-tools.sh $(BENCH_TOOLS) chrt:util-linux strace:strace valgrind:valgrind
	@$(BENCH_PYTHON) tests/bench/instructions.py --json $(BUILD)/instructions.json $(if $(filter-out 0,$(RENEW)),--renew)

bench-threads: $(BUILD)/pointsman ## what a second thread brings (QUICK=1: a first look)
	@sh tests/bench/install-tools.sh $(BENCH_TOOLS)
	@$(BENCH_PYTHON) tests/bench/threads.py

bench-fairness: $(BUILD)/pointsman ## p99 of small GETs beside one client that wants much (10 MiB values, KEYS, pipelines)
	@sh tests/bench/install-tools.sh $(BENCH_TOOLS) haproxy:haproxy
	@$(BENCH_PYTHON) tests/bench/fairness.py

bench-profile: $(BUILD)/pointsman $(BUILD)/openloop $(BUILD)/floor ## hot symbols and system calls per request (BENCH_SCENARIO=get_p16)
	@sh tests/bench/install-tools.sh $(BENCH_TOOLS) perf:linux-perf strace:strace valgrind:valgrind
	@$(BENCH) --perf $(BENCH_SCENARIO)

.PHONY: bench-scale
bench-scale: $(BUILD)/pointsman $(BUILD)/bench/decision_bench ## memory of clients, many connections and nodes, overload (QUICK=1, SCALE_PARTS=memory,held,...)
	@sh tests/bench/install-tools.sh redis-server:redis-server redis-benchmark:redis-tools haproxy:haproxy \
		nutcracker:nutcracker taskset:util-linux
	@BENCH_POINTSMAN="$(BENCH_POINTSMAN)" /usr/bin/python3 tests/bench/scale.py --json $(BUILD)/scale.json
