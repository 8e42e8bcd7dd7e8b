# SPDX-License-Identifier: BSD-3-Clause
#
# Targets beyond building: tests, checks, the demo, installation.

.PHONY: help deps lint check demo bench install clean run-tests man

help:
	@echo 'make              build/opt/tenon'
	@echo 'make demo         boot a stock kernel as a User VM and show what it saw'
	@echo 'make check        every test (what CI runs)'
	@echo 'make tests        build the unit and driver tests; run-tests runs them'
	@echo 'make bench        the benchmarks'
	@echo 'make lint         format, headers, licences'
	@echo 'make man          doc/tenon.1 from its template and the option tables'
	@echo 'make install      PREFIX=/usr/local DESTDIR='
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

BENCH_SOURCES := $(sort $(wildcard tests/bench/bench_*.c))
BENCHES := $(BENCH_SOURCES:%.c=$(BUILD)/%)

bench:
	@tools/deps build
	@$(MAKE) --no-print-directory $(BENCHES)
	@for bench in $(BENCHES); do $$bench || exit 1; done

man: $(BUILD)/tenon
	@tools/man $(BUILD)/tenon doc/tenon.1.in > doc/tenon.1

install: $(BUILD)/tenon
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/doc/tenon
	install -m 755 $(BUILD)/tenon $(DESTDIR)$(PREFIX)/bin/tenon
	install -m 644 doc/tenon.1 $(DESTDIR)$(PREFIX)/share/man/man1/tenon.1
	install -m 644 README.md LICENSE CHANGELOG.md doc/*.md $(DESTDIR)$(PREFIX)/share/doc/tenon

clean:
	rm -rf build
