/* SPDX-License-Identifier: BSD-3-Clause */
/* smoke */
#include "virtio_driver.h"

static void test_smoke(void **state)
{
	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		struct machine_config config = { .ioeventfd = params.ioeventfd };
		struct machine *machine = machine_create(&config);
		struct virtio_driver *driver;
		char name[80];

		print_message("%s\n", driver_params_name(&params, name, sizeof(name)));
		machine_add(machine, "2,virtio-rng");
		driver = driver_run(machine, 2, &params, 0);
		for (unsigned int l = 0; l < driver_layout_count; l++) {
			uint8_t data[64];

			print_message("%s\n", driver_layouts[l].name);
			assert_int_equal(driver_request(driver_queue(driver, 0), &driver_layouts[l], NULL, 0,
				       data, sizeof(data)), 64);
			assert_true(driver_queue_interrupt(driver_queue(driver, 0)));
		}
		driver_close(driver);
		machine_destroy(machine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_smoke) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
