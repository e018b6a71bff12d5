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
LIBS := -lev -lhiredis -linih -lcares -lm

ROUTING := $(patsubst %.c,$(BUILD)/%.o,$(wildcard routing/*.c))
PROXY := $(patsubst %.c,$(BUILD)/%.o,$(wildcard proxy/*.c))
PROXY_WITHOUT_MAIN := $(filter-out $(BUILD)/proxy/main.o,$(PROXY))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*_test.c))

.PHONY: all
all: $(BUILD)/pointsman ## build build/pointsman

$(BUILD)/pointsman: $(PROXY) $(BUILD)/librouting.a
	$(CC) $(ALL_CFLAGS) -o $@ $(PROXY) $(BUILD)/librouting.a $(LDFLAGS) $(LIBS)

$(BUILD)/librouting.a: $(ROUTING)
	rm -f $@ && ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A unit test of routing/ links routing/ alone; tests/unit/proxy_*_test.c link the proxy's modules too.
$(BUILD)/unit/proxy_%: tests/unit/proxy_%.c $(PROXY_WITHOUT_MAIN) $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(PROXY_WITHOUT_MAIN) $(BUILD)/librouting.a -lcmocka $(LDFLAGS) $(LIBS)

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/librouting.a -lcmocka $(LDFLAGS)

# Small programs that integration tests ask; each is one file and routing/.
$(BUILD)/%: tests/integration/tools/%.c $(BUILD)/librouting.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/librouting.a $(LDFLAGS)

.PHONY: unit
unit: $(UNIT_TESTS) ## run the unit tests alone
	@for t in $(UNIT_TESTS); do $$t || exit 1; done

.PHONY: clean
clean: ## remove everything built
	rm -rf build

.PHONY: help
help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | sort

-include $(shell find build -name '*.d' 2>/dev/null)
