/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks: saved states. A device is saved, reset and loaded; its driver must not notice. A state that
 * somebody changed is refused, or the device lives with it.
 */
#include "check_context.h"

#include <errno.h>
#include <stdlib.h>

#define BYTES_MAX 2048 /* of a longer state, so many bytes are changed, evenly spread */

/* struct saved - the state of the device, which is quiesced; free() @bytes. */
struct saved {
	uint8_t *bytes;
	size_t len;
};

static struct saved save(struct check_context *check)
{
	struct state_writer *writer = state_writer_create(check->machine->ctx->log);
	struct saved state = { .bytes = NULL };
	const uint8_t *bytes;

	assert_non_null(writer);
	if (!pci_save_device(check->dev, writer)) {
		bytes = state_finish(writer, &state.len);
		state.bytes = malloc(state.len);
		assert_non_null(state.bytes);
		memcpy(state.bytes, bytes, state.len);
	}
	state_writer_destroy(writer);
	return state;
}

static int load(struct check_context *check, const uint8_t *bytes, size_t len)
{
	struct state_reader *reader = state_reader_open(check->machine->ctx->log, bytes, len);
	int error;

	if (!reader)
		return -errno;
	error = pci_load_device(check->dev, reader);
	if (!error)
		error = state_commit(reader);
	state_reader_close(reader);
	return error;
}

static const char *last_line(const struct check_context *check)
{
	const struct captured_log *captured = &check->machine->captured;

	return captured->count ? captured->lines[MIN(captured->count, CAPTURED_LINES) - 1] : "";
}

/* Save it, make it new, load it, save it again: the same bytes. */
static enum check_result save_and_load(struct check_context *check)
{
	struct saved first = save(check), second;
	enum check_result result = CHECK_OK;

	CHECK(check, first.bytes, "it cannot be saved: %s", last_line(check));
	pci_reset_devices(check->machine->ctx);
	if (load(check, first.bytes, first.len)) {
		result = check_fail(check, "its own state is refused: %.300s", last_line(check));
	} else {
		second = save(check);
		if (second.len != first.len || memcmp(second.bytes, first.bytes, first.len))
			result = check_fail(check, "loaded and saved again, its state is another");
		free(second.bytes);
	}
	free(first.bytes);
	return result;
}

static enum check_result state_round(struct check_context *check)
{
	struct vmctx *ctx = check->machine->ctx;
	struct check_probe probe;
	enum check_result result;

	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	check_start(check);
	for (int i = 0; i < 3; i++) {
		CHECK(check, check_probe_works(check, &probe), "it answers no more");
		pci_quiesce_devices(ctx);
		result = save_and_load(check);
		pci_resume_devices(ctx);
		if (result != CHECK_OK)
			return result;
		CHECK(check, check_probe_works(check, &probe),
		      "after it was loaded it does not go on for the driver that it had");
	}
	return CHECK_OK;
}
DEVICE_CHECK(state_round, "state", "saved and loaded, the device goes on as if nothing had been",
	     CHECK_ALL);

/* Load @state with the byte at @at changed, and let the device live with it. */
static void try_changed(struct check_context *check, const struct saved *state, size_t at,
			uint8_t change)
{
	struct vmctx *ctx = check->machine->ctx;

	state->bytes[at] ^= change;
	state_seal(state->bytes, state->len);
	if (!load(check, state->bytes, state->len)) {
		pci_resume_devices(ctx);
		for (unsigned int i = 0; i < check_queues(check->driver); i++)
			check->driver->interface->notify(check->driver,
							 driver_queue(check->driver, i));
		machine_poll(check->machine);
		pci_quiesce_devices(ctx);
	}
	state->bytes[at] ^= change;
}

static enum check_result state_changed(struct check_context *check)
{
	static const uint8_t changes[] = { 0xff, 0x01 };
	struct vmctx *ctx = check->machine->ctx;
	struct check_probe probe;
	struct saved state;
	size_t step;

	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	check_start(check);
	CHECK(check, check_probe_works(check, &probe), "it answers no more");
	pci_quiesce_devices(ctx);
	state = save(check);
	CHECK(check, state.bytes, "it cannot be saved: %s", last_line(check));
	step = state.len / BYTES_MAX + 1;
	for (size_t at = 0; at < state.len; at += step)
		for (unsigned int i = 0; i < ARRAY_SIZE(changes); i++)
			try_changed(check, &state, at, changes[i]);
	free(state.bytes);
	pci_reset_devices(ctx);
	pci_resume_devices(ctx);
	check_start(check);
	CHECK(check, check_probe_works(check, &probe), "it does not come back after a reset");
	return CHECK_OK;
}
DEVICE_CHECK(state_changed, "class 14", "a state with any byte changed is refused or lived with",
	     CHECK_INTERFACES);
