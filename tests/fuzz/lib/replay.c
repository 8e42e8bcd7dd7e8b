/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.c: a target without a fuzzer: runs it on each file and on all files of each directory that
 * are named, in the order of their names.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz_input.h"

#define INPUT_MAX MIB(1)

static unsigned int replayed;

static int replay_file(const char *path)
{
	uint8_t *data = malloc(INPUT_MAX);
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!data || !file) {
		perror(path);
		free(data);
		return 1;
	}
	size = fread(data, 1, INPUT_MAX, file);
	fclose(file);
	/* Of the exact size, so that the sanitizer sees who reads behind its end. */
	data = realloc(data, size ? size : 1);
	fprintf(stderr, "%s\n", path);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	replayed++;
	return 0;
}

static int replay_directory(const char *path)
{
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort), error = 0;

	for (int i = 0; i < count; i++) {
		char name[4096];

		snprintf(name, sizeof(name), "%s/%s", path, names[i]->d_name);
		if (names[i]->d_name[0] != '.')
			error |= replay_file(name);
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return error;
}

int main(int argc, char **argv)
{
	int error = 0;

	for (int i = 1; i < argc; i++) {
		struct stat status;

		if (stat(argv[i], &status) < 0)
			continue;
		error |= S_ISDIR(status.st_mode) ? replay_directory(argv[i]) : replay_file(argv[i]);
	}
	printf("%u inputs\n", replayed);
	return error;
}
