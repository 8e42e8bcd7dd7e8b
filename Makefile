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
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-ftrivial-auto-var-init=pattern
else ifdef TSAN
VARIANT := tsan
# gcc warns that it does not model fences; what they order is checked by other tests.
SANITIZERS := -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan
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
	$(foreach library,$(HAVE),-DHAVE_$(call upper,$(library))) \
	$(SANITIZERS) -fvisibility=hidden -pthread -Idevicemodel/include -MMD -MP
ALL_LDFLAGS = $(LDFLAGS) $(SANITIZERS) -pthread

# ---- Optional libraries: each can be left out with WITHOUT_<NAME>=1; MINIMAL=1 leaves out all.
#      uuid   the VM's UUID on the ACRN port (uuid-dev)
#      liburing  block I/O by io_uring (liburing-dev); else a pool of threads does it
#      slirp  networking without privileges, backend=user (libslirp-dev)
#      fuse3  hsmd, the HSM for machines without ACRN (libfuse3-dev); tenon itself does not use it
OPTIONAL_LIBRARIES := uuid liburing slirp fuse3
upper = $(shell echo $(1) | tr a-z A-Z)
# libslirp is loaded when it is asked for, so that nobody else pays for it and its glib: the header is enough.
find = $(if $(filter slirp,$(1)),$(CC) -E -include slirp/libslirp.h -x c /dev/null >/dev/null 2>&1, \
	$(PKG_CONFIG) --exists $(1))
HAVE := $(foreach library,$(OPTIONAL_LIBRARIES),$(if $(MINIMAL)$(WITHOUT_$(call upper,$(library))),, \
	$(shell $(call find,$(library)) && echo $(library))))
TENON_LIBRARIES := $(filter-out fuse3 slirp,$(HAVE))
LIBS := -ldl $(if $(TENON_LIBRARIES),$(shell $(PKG_CONFIG) --libs $(TENON_LIBRARIES)))

SOURCES := $(sort $(shell find devicemodel -name '*.c'))
PROGRAM := devicemodel/core/main.c devicemodel/core/cmd_check.c
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(filter-out $(PROGRAM:%.c=$(BUILD)/%.o),$(OBJECTS))
DRIVER_SOURCES := $(sort $(wildcard tests/driver/lib/*.c tests/conformance/lib/*.c))
DRIVER_OBJECTS := $(DRIVER_SOURCES:%.c=$(BUILD)/%.o)
TEST_SOURCES := $(sort $(wildcard $(patsubst %,tests/%/test_*.c,unit driver conformance hostile \
	vhost_user)))
TESTS := $(TEST_SOURCES:%.c=$(BUILD)/%)
TEST_INCLUDES := -Itests/driver/lib -Itests/conformance/lib

# What `tenon check-device` runs: the checks and the driver library again, without cmocka.
KIT_SOURCES := $(filter-out %/device_kinds.c %/vhost_model.c \
	$(wildcard tests/driver/lib/vhost_user_*.c),$(DRIVER_SOURCES))
KIT_OBJECTS := $(KIT_SOURCES:%.c=$(BUILD)/kit/%.o)

# Headers that devices include; what they declare, and nothing else, plugins can call.
API_HEADERS := $(patsubst %,devicemodel/include/%.h,virtio plugin event log option_table \
	state_table util block_backend char_backend net_backend)
API_SYMBOLS := devicemodel/plugin.symbols

.PHONY: all
all: $(BUILD)/tenon

$(BUILD)/tenon: $(OBJECTS) $(KIT_OBJECTS) $(API_SYMBOLS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -Wl,--dynamic-list=$(API_SYMBOLS) -o $@ $(filter %.o,$^) $(LIBS)

$(BUILD)/%.o: %.c Makefile
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter tests/%,$<),$(TEST_INCLUDES)) -c -o $@ $<

$(BUILD)/devicemodel/core/cmd_check.o: ALL_CFLAGS += -Itests/conformance/lib

$(BUILD)/kit/%.o: %.c Makefile
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/conformance/kit $(TEST_INCLUDES) -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(LIBRARY) $(DRIVER_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

# These run the program itself.
$(filter $(BUILD)/tests/vhost_user/%,$(TESTS)): | $(BUILD)/tenon

.SECONDARY:

.PHONY: tests
tests: $(TESTS)

-include $(OBJECTS:.o=.d) $(DRIVER_OBJECTS:.o=.d) $(KIT_OBJECTS:.o=.d) $(TESTS:=.d)

include tools/hsmd/hsmd.mk
include tests/tests.mk
