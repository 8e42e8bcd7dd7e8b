# SPDX-License-Identifier: BSD-3-Clause
#
# hsmd: an ACRN HSM on KVM (doc/hsmd.md). Needs libfuse3; without it there is no hsmd.
# hsmd_client: its tests, a program for the lab that speaks the raw ABI.

HSMD_SOURCES := $(sort $(wildcard tools/hsmd/*.c))
HSMD_OBJECTS := $(HSMD_SOURCES:%.c=$(BUILD)/%.o)
HSMD_CLIENT_SOURCES := $(sort $(wildcard tests/hsmd/*.c tests/hsmd/*.S))
HSMD_CLIENT_OBJECTS := $(patsubst %,$(BUILD)/%.o,$(basename $(HSMD_CLIENT_SOURCES)))

ifneq ($(and $(filter fuse3,$(HAVE)),$(HSMD_SOURCES)),)
all: $(BUILD)/hsmd
endif

$(HSMD_OBJECTS): ALL_CFLAGS += $(shell $(PKG_CONFIG) --cflags fuse3 2>/dev/null)

$(BUILD)/hsmd: $(HSMD_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(shell $(PKG_CONFIG) --libs fuse3)

$(BUILD)/%.o: %.S Makefile
	$(call say,AS,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -c -o $@ $<

$(BUILD)/hsmd_client: $(HSMD_CLIENT_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^

-include $(HSMD_OBJECTS:.o=.d) $(HSMD_CLIENT_OBJECTS:.o=.d)
