# SPDX-License-Identifier: BSD-3-Clause
#
# Targets beyond building: tests, checks, the demo, installation.

.PHONY: api-headers help deps lint check demo install clean run-tests man

help:
	@echo 'make              build/opt/tenon'
	@echo 'make demo         boot a stock kernel as a User VM and show what it saw'
	@echo 'make check        every test (what CI runs)'
	@echo 'make tests        build the unit and driver tests; run-tests runs them'
	@echo 'make bench        the race against QEMU and DPDK; writes doc/performance.md'
	@echo 'make fuzz         build the fuzzers; tests/fuzz/run runs them'
	@echo 'make lint         format, headers, licences'
	@echo 'make man          doc/tenon.1 from its template and the option tables'
	@echo 'make install      PREFIX=/usr/local DESTDIR=; program, manual, headers for plugins'
	@echo 'make deps         install the Debian packages that make check needs'
	@echo 'Variables: CC, CFLAGS, SANITIZE=1, TSAN=1, MINIMAL=1, BUILD=dir, V=1'

deps:
	@tools/deps check

demo:
	@tools/deps demo
	@$(MAKE) --no-print-directory all
	@tests/lab/demo $(BUILD)/tenon

check:
	@tools/deps check
	@tests/check

run-tests: $(TESTS)
	@tests/run $(TESTS)

lint:
	@tests/lint

api-headers:
	@echo $(API_HEADERS)

# ---- The race against the peers: make bench, BENCH=options of tests/bench/run.
BENCH_SOURCES := $(sort $(wildcard tests/bench/bench_*.c tests/bench/blk_client.c))
BENCHES := $(BENCH_SOURCES:%.c=$(BUILD)/%) $(BUILD)/tests/bench/launch $(BUILD)/tests/bench/guest.elf
BENCH_GUEST := $(addprefix tests/bench/guest/,guest.ld start.S guest.c)
BENCH_GUEST_FLAGS := -std=gnu11 -O2 $(WARNINGS) -ffreestanding -fno-stack-protector -fno-pic \
	-mno-red-zone -mgeneral-regs-only -fcf-protection=none -static -nostdlib -Wl,--build-id=none \
	-Wl,-z,max-page-size=4096 -Wl,-z,noexecstack

$(BUILD)/tests/bench/launch: $(BUILD)/tests/bench/launch.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^

$(BUILD)/tests/bench/guest.elf: $(BENCH_GUEST) tests/tests.mk
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(BENCH_GUEST_FLAGS) -T $< -o $@ $(filter-out %.mk,$(filter-out $<,$^))

.PHONY: bench benches
benches: $(BENCHES)

bench:
	@tools/deps bench
	@$(MAKE) --no-print-directory all benches
	@tests/bench/run --build $(BUILD) $(BENCH)

-include $(wildcard $(BUILD)/tests/bench/*.d)

# ---- What the hot path costs: tests/budget/run
$(BUILD)/tests/budget/budget: $(BUILD)/tests/budget/system_calls.o
-include $(wildcard $(BUILD)/tests/budget/*.d)

# ---- Fuzz targets: with libFuzzer under clang (make fuzz), else with a main that replays files.
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/*.c)))
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=$(BUILD)/tests/fuzz/%)
FUZZ_LIBRARY := $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/replay.c,$(wildcard tests/fuzz/lib/*.c)) \
	$(wildcard tests/driver/lib/*.c))
FUZZ_MAIN := $(if $(FUZZER),-fsanitize=fuzzer,$(BUILD)/tests/fuzz/lib/replay.o)

$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(FUZZ_LIBRARY) $(LIBRARY) \
		$(BUILD)/tests/fuzz/lib/replay.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter-out %/replay.o,$^) $(FUZZ_MAIN) $(LIBS) -lcmocka

ifdef FUZZER
$(FUZZ_LIBRARY): ALL_CFLAGS += -DFUZZER
# What is fuzzed tells where it has been; the tests' own code need not.
$(OBJECTS): SANITIZERS += -fsanitize=fuzzer-no-link
endif

-include $(wildcard $(BUILD)/tests/fuzz/*.d $(BUILD)/tests/fuzz/lib/*.d)

.PHONY: fuzz fuzz-programs
fuzz-programs: $(FUZZ_PROGRAMS)

fuzz:
	@$(MAKE) --no-print-directory FUZZER=1 SANITIZE=1 CC=clang BUILD=build/fuzz fuzz-programs

man: $(BUILD)/tenon
	@tools/man $(BUILD)/tenon doc/tenon.1.in > doc/tenon.1

install: $(BUILD)/tenon $(if $(filter fuse3,$(HAVE)),$(BUILD)/hsmd)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/doc/tenon/samples $(DESTDIR)$(PREFIX)/include/tenon \
		$(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $(BUILD)/tenon $(DESTDIR)$(PREFIX)/bin/tenon
	ln -sf tenon $(DESTDIR)$(PREFIX)/bin/acrn-dm
	tools/vhost-user $(BUILD)/tenon "$(DESTDIR)" "$(PREFIX)"
	$(if $(filter fuse3,$(HAVE)),install -d $(DESTDIR)$(PREFIX)/sbin)
	$(if $(filter fuse3,$(HAVE)),install -m 755 $(BUILD)/hsmd $(DESTDIR)$(PREFIX)/sbin/hsmd)
	install -m 644 doc/tenon.1 doc/acrn-dm.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 README.md LICENSE CHANGELOG.md doc/*.md $(DESTDIR)$(PREFIX)/share/doc/tenon
	install -m 644 samples/*.c $(DESTDIR)$(PREFIX)/share/doc/tenon/samples
	install -m 644 $(API_HEADERS) $(DESTDIR)$(PREFIX)/include/tenon
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' devicemodel/tenon.pc.in \
		> $(DESTDIR)$(PREFIX)/lib/pkgconfig/tenon.pc
	chmod 644 $(DESTDIR)$(PREFIX)/lib/pkgconfig/tenon.pc

clean:
	rm -rf build
