/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state: saved states from an enemy. The input is a list of edits to a good state of each kind of
 * device, taken when the program starts, so that inputs outlive changes of the format; or a state.
 */
#include "lib/fuzz_input.h"
#include "lib/fuzz_machine.h"

#include "../driver/state_lab.h"

#define STATES_MAX 32
#define STATE_MAX KIB(64)
#define WHOLE 0xff /* the input is a state, not edits */

/* struct good_state - behind the byte that names the kind; @len 0: cannot be had here. */
struct good_state {
	uint8_t bytes[STATE_MAX];
	size_t len;
};

static unsigned int good_states_take(struct good_state *states)
{
	unsigned int count = 0;
	struct lab_state *state;
	uint8_t first;

	for (; count < STATES_MAX && state_fuzz_seed(count, &first, &state); count++) {
		if (!state)
			continue;
		assert_true(state->len < STATE_MAX);
		states[count].bytes[0] = first;
		memcpy(states[count].bytes + 1, state->bytes, state->len);
		states[count].len = state->len + 1;
		lab_state_free(state);
	}
	return count;
}

/* Overwrite, cut off, or take out a few bytes. */
static void edit(struct good_state *state, struct fuzz_input *input)
{
	size_t at = fuzz_u16(input) % state->len;
	uint8_t how = fuzz_u8(input);
	size_t part = MIN(1U << how % 4, state->len - at);

	if (how < 0xe0) {
		fuzz_bytes(input, state->bytes + at, part);
	} else if (how < 0xf0) {
		state->len -= part;
		memmove(state->bytes + at, state->bytes + at + part, state->len - at);
	} else {
		state->len = MAX(at, 1);
	}
	state->len = MAX(state->len, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct good_state good[STATES_MAX]; /* libFuzzer hands nothing through */
	static unsigned int count;
	static struct good_state state;
	struct fuzz_input input = { data, size };
	unsigned int edits = 0;
	uint8_t which = fuzz_u8(&input);

	if (!count)
		count = good_states_take(good);
	if (which == WHOLE) {
		state_fuzz_one(input.at, input.left);
		return 0;
	}
	/* The numbers of states are part of saved inputs. */
	if (!good[which % STATES_MAX].len)
		return -1;
	state = good[which % STATES_MAX];
	for (; edits < 16 && fuzz_more(&input); edits++)
		edit(&state, &input);
	if (!state_fuzz_one(state.bytes, state.len) && !edits)
		fuzz_fail("a good state is refused");
	return 0;
}
