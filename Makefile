# SPDX-License-Identifier: BSD-3-Clause
#
# tenon: one makefile for everything. `make help` lists the targets.

VERSION := 0.1.0
PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC      := gcc
endif
PKG_CONFIG ?= pkg-config

# make V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

# make SANITIZE=1: AddressSanitizer and UndefinedBehaviorSanitizer; make TSAN=1: ThreadSanitizer.
ifdef SANITIZE
VARIANT := san
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else ifdef TSAN
VARIANT := tsan
SANITIZERS := -fsanitize=thread -fno-omit-frame-pointer
else
VARIANT := opt
SANITIZERS :=
endif
ifneq ($(CC),gcc)
VARIANT := $(VARIANT)-$(notdir $(CC))
endif
BUILD ?= build/$(VARIANT)

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wwrite-strings -Wundef -Wformat=2 -Wvla -Wno-unused-parameter
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DTENON_VERSION='"$(VERSION)"' $(WARNINGS) $(CFLAGS) \
	$(SANITIZERS) -fvisibility=hidden -pthread -Idevicemodel/include -MMD -MP
ALL_LDFLAGS = $(LDFLAGS) $(SANITIZERS) -pthread

# ---- Optional libraries: each can be left out with WITHOUT_<NAME>=1; MINIMAL=1 leaves out all.
# (None yet: tenon itself needs nothing beyond libc.)
OPTIONAL_LIBRARIES :=
LIBS :=

SOURCES := $(sort $(shell find devicemodel -name '*.c'))
MAIN    := devicemodel/core/main.c
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(filter-out $(BUILD)/$(MAIN:.c=.o),$(OBJECTS))
DRIVER_SOURCES := $(sort $(wildcard tests/driver/lib/*.c))
DRIVER_OBJECTS := $(DRIVER_SOURCES:%.c=$(BUILD)/%.o)
TEST_SOURCES := $(sort $(wildcard tests/unit/test_*.c tests/driver/test_*.c))
TESTS := $(TEST_SOURCES:%.c=$(BUILD)/%)
HEADERS := $(sort $(wildcard devicemodel/include/*.h))

.PHONY: all
all: $(BUILD)/tenon

$(BUILD)/tenon: $(OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c Makefile
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter tests/%,$<),-Itests/driver/lib) -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(LIBRARY) $(DRIVER_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

.SECONDARY:

.PHONY: tests
tests: $(TESTS)

-include $(OBJECTS:.o=.d) $(DRIVER_OBJECTS:.o=.d) $(TESTS:=.d)

include tests/tests.mk
