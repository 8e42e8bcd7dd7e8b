# SPDX-License-Identifier: BSD-3-Clause
#
# hsmd: an ACRN HSM on KVM (doc/hsmd.md). Needs libfuse3; without it there is no hsmd.

HSMD_SOURCES := $(sort $(wildcard tools/hsmd/*.c))
HSMD_OBJECTS := $(HSMD_SOURCES:%.c=$(BUILD)/%.o)

ifneq ($(and $(filter fuse3,$(HAVE)),$(HSMD_SOURCES)),)
all: $(BUILD)/hsmd
endif

$(HSMD_OBJECTS): ALL_CFLAGS += $(shell $(PKG_CONFIG) --cflags fuse3 2>/dev/null)

$(BUILD)/hsmd: $(HSMD_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(shell $(PKG_CONFIG) --libs fuse3)

-include $(HSMD_OBJECTS:.o=.d)
