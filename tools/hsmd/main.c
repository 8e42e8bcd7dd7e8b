/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main.c: hsmd, an ACRN HSM on KVM: options, and the character device, which is made by CUSE.
 */
#include "hsmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_DEVICE_NAME "acrn_hsm"
#define WORKERS 8 /* that stay */
#define WORKERS_MAX 256
#define FILES_WANTED 65536

static const char usage[] =
	"usage: hsmd [OPTIONS]\n"
	"Provide /dev/" DEFAULT_DEVICE_NAME
	", the device of ACRN's HSM, with KVM as the hypervisor.\n"
	"Device models for ACRN, tenon and others, run on it unchanged. Needs root, /dev/kvm and\n"
	"/dev/cuse (modprobe cuse). SIGUSR1 logs what it holds, SIGTERM ends it and all its VMs.\n"
	"\n"
	"  -n, --device-name NAME  make /dev/NAME instead\n"
	"  -k, --kvm-clock         show guests KVM's clock beside ACRN's leaves: for machines "
	"where\n"
	"                          timers that the device model emulates are too slow\n"
	"  -f, --foreground        stay in the foreground, as it always does\n"
	"  -d, --debug             log what is created and destroyed\n"
	"  -h, --help              this text\n"
	"  -V, --version           which version this is\n";

/* ---- The device */

static void on_ready(void *userdata)
{
	struct hsmd *hsmd = userdata;

	log_line(LOG_INFO, "/dev/%s is ready", hsmd->device_name);
}

static void on_open(fuse_req_t req, struct fuse_file_info *info)
{
	struct vm *vm;

	if (!fuse_req_ctx(req)->pid) {
		log_line(LOG_ERROR,
			 "a client in another PID namespace cannot be served (run hsmd in "
			 "the initial one)");
		fuse_reply_err(req, EPERM);
		return;
	}
	vm = vm_open(fuse_req_userdata(req));
	if (!vm) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	info->fh = (uintptr_t)vm;
	fuse_reply_open(req, info);
}

static void on_release(fuse_req_t req, struct fuse_file_info *info)
{
	vm_release((struct vm *)(uintptr_t)info->fh);
	fuse_reply_err(req, 0);
}

static void on_ioctl(fuse_req_t req, int command, void *argument, struct fuse_file_info *info,
		     unsigned int flags, const void *in, size_t in_size, size_t out_size)
{
	/* The driver has no entry for 32-bit programs. */
	if (flags & FUSE_IOCTL_COMPAT) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	ioctl_handle((struct vm *)(uintptr_t)info->fh, req, (unsigned int)command,
		     (uintptr_t)argument);
}

static const struct cuse_lowlevel_ops device_ops = {
	.init_done = on_ready,
	.open = on_open,
	.release = on_release,
	.ioctl = on_ioctl,
};

static struct fuse_session *make_device(struct hsmd *hsmd)
{
	char name[sizeof(hsmd->device_name) + sizeof("DEVNAME=")];
	const char *info[] = { name };
	char program[] = "hsmd", foreground[] = "-f";
	char *argv[] = { program, foreground, NULL };
	const struct cuse_info cuse = {
		.dev_info_argc = 1,
		.dev_info_argv = info,
		.flags = CUSE_UNRESTRICTED_IOCTL,
	};
	int multithreaded;

	snprintf(name, sizeof(name), "DEVNAME=%s", hsmd->device_name);
	return cuse_lowlevel_setup(2, argv, &cuse, &device_ops, &multithreaded, hsmd);
}

/* ---- Threads */

/*
 * Calls are served by WORKERS threads, so that what hsmd holds tells of leaks. Who waits in ATTACH
 * leaves a request behind, not a thread; but a call can wait for its client: for a page of its
 * memory that is long in coming, for a file of its to be opened. So that others are served
 * meanwhile, one more thread is started when all are in calls, and it ends when they are not.
 */
struct workers {
	struct fuse_session *session;
	pthread_mutex_t lock;
	unsigned int count, free; /* free: not in a call */
};

static int start_worker(struct workers *workers);

/* A worker has a call; another is to take the next one. */
static void begin_call(struct workers *workers)
{
	bool none_left;

	pthread_mutex_lock(&workers->lock);
	none_left = --workers->free == 0;
	pthread_mutex_unlock(&workers->lock);
	if (none_left)
		start_worker(workers);
}

/* False: there are enough without this one. */
static bool end_call(struct workers *workers)
{
	bool needed;

	pthread_mutex_lock(&workers->lock);
	needed = workers->free < WORKERS;
	if (needed)
		workers->free++;
	else
		workers->count--;
	pthread_mutex_unlock(&workers->lock);
	return needed;
}

/* The device is gone when it ends for another reason than that there are enough. */
static void *worker_thread(void *arg)
{
	struct workers *workers = arg;
	struct fuse_buf buffer = { .mem = NULL };
	bool needed = true;
	int ret = 1;

	while (needed && ret > 0 && !fuse_session_exited(workers->session)) {
		ret = fuse_session_receive_buf(workers->session, &buffer);
		if (ret > 0) {
			begin_call(workers);
			fuse_session_process_buf(workers->session, &buffer);
			needed = end_call(workers);
		} else if (ret == -EINTR || ret == -EAGAIN) {
			ret = 1;
		}
	}
	free(buffer.mem);
	if (ret < 0)
		log_line(LOG_ERROR, "/dev/cuse: %s", strerror(-ret));
	if (needed)
		kill(getpid(), SIGTERM);
	return NULL;
}

static int start_worker(struct workers *workers)
{
	bool allowed;
	pthread_t thread;
	int error;

	pthread_mutex_lock(&workers->lock);
	allowed = workers->count < WORKERS_MAX;
	if (allowed) {
		workers->count++;
		workers->free++;
	}
	pthread_mutex_unlock(&workers->lock);
	if (!allowed)
		return -EAGAIN;
	error = pthread_create(&thread, NULL, worker_thread, workers);
	if (!error) {
		pthread_detach(thread);
		return 0;
	}
	pthread_mutex_lock(&workers->lock);
	workers->count--;
	workers->free--;
	pthread_mutex_unlock(&workers->lock);
	log_line(LOG_ERROR, "cannot start a thread: %s (raise ulimit -u)", strerror(error));
	return -error;
}

/* Until a signal ends it; the process takes its VMs with it. */
static int serve(struct hsmd *hsmd, const sigset_t *signals)
{
	struct workers workers = { .session = make_device(hsmd),
				   .lock = PTHREAD_MUTEX_INITIALIZER };
	int signal = 0;

	if (!workers.session) {
		log_line(LOG_ERROR, "/dev/%s cannot be made (see the lines above)",
			 hsmd->device_name);
		return -EIO;
	}
	for (unsigned int i = 0; i < WORKERS; i++) {
		if (start_worker(&workers))
			return -EAGAIN;
	}
	while (signal != SIGTERM && signal != SIGINT && signal != SIGHUP) {
		if (!sigwait(signals, &signal) && signal == SIGUSR1)
			stats_log(hsmd);
	}
	return 0;
}

/* All threads have them blocked; the first one waits for them. */
static void block_signals(sigset_t *signals)
{
	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGHUP);
	sigaddset(signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, signals, NULL);
}

/* ---- Start */

static int open_kvm(struct hsmd *hsmd)
{
	int version;

	hsmd->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (hsmd->kvm_fd < 0) {
		log_line(LOG_ERROR,
			 "cannot open /dev/kvm: %s (load kvm_intel or kvm_amd, run as root)",
			 strerror(errno));
		return -errno;
	}
	version = kvm_call(hsmd->kvm_fd, KVM_GET_API_VERSION, NULL);
	if (version != KVM_API_VERSION) {
		log_line(LOG_ERROR, "/dev/kvm has API version %d, not %d", version,
			 KVM_API_VERSION);
		return -ENOTSUP;
	}
	hsmd->run_size = (size_t)kvm_call(hsmd->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	return 0;
}

static int check_device(const struct hsmd *hsmd)
{
	char path[sizeof(hsmd->device_name) + sizeof("/dev/")];
	struct stat status;

	if (access("/dev/cuse", R_OK | W_OK)) {
		log_line(LOG_ERROR, "cannot use /dev/cuse: %s (modprobe cuse, run as root)",
			 strerror(errno));
		return -errno;
	}
	snprintf(path, sizeof(path), "/dev/%s", hsmd->device_name);
	if (stat(path, &status))
		return 0;
	log_line(LOG_ERROR,
		 "%s is there already: a real HSM or another hsmd (choose another name "
		 "with --device-name)",
		 path);
	return -EEXIST;
}

/* Guest RAM, vCPUs and eventfds of many VMs need more than the usual 1024. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = FILES_WANTED;
	if (limit.rlim_max < FILES_WANTED)
		limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int set_device_name(struct hsmd *hsmd, const char *name)
{
	if (!*name || strchr(name, '/') || strlen(name) >= sizeof(hsmd->device_name)) {
		log_line(LOG_ERROR,
			 "--device-name %s: give a name without / of at most %zu characters", name,
			 sizeof(hsmd->device_name) - 1);
		return -EINVAL;
	}
	strcpy(hsmd->device_name, name);
	return 0;
}

/* Exit status, or -1: go on. */
static int parse_options(struct hsmd *hsmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "device-name", required_argument, NULL, 'n' },
		{ "kvm-clock", no_argument, NULL, 'k' },
		{ "foreground", no_argument, NULL, 'f' },
		{ "debug", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "n:kfdhV", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			if (set_device_name(hsmd, optarg))
				return EXIT_FAILURE;
			break;
		case 'k':
			hsmd->kvm_clock = true;
			break;
		case 'f':
			break;
		case 'd':
			log_set_debug(true);
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		case 'V':
			puts("hsmd of tenon " TENON_VERSION);
			return EXIT_SUCCESS;
		default:
			fputs(usage, stderr);
			return EXIT_FAILURE;
		}
	}
	if (optind == argc)
		return -1;
	log_line(LOG_ERROR, "what is %s? hsmd takes options only (hsmd --help)", argv[optind]);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct hsmd hsmd = { .kvm_fd = -1, .device_name = DEFAULT_DEVICE_NAME };
	int status = parse_options(&hsmd, argc, argv);
	sigset_t signals;

	if (status >= 0)
		return status;
	pthread_mutex_init(&hsmd.lock, NULL);
	LIST_INIT(&hsmd.vms);
	LIST_INIT(&hsmd.waiters);
	sched_getaffinity(0, sizeof(hsmd.cpus), &hsmd.cpus);
	raise_file_limit();
	block_signals(&signals);
	if (check_device(&hsmd) || open_kvm(&hsmd) || vcpu_install_signal())
		return EXIT_FAILURE;
	/* At once: the other threads use what is here. */
	_exit(serve(&hsmd, &signals) ? EXIT_FAILURE : EXIT_SUCCESS);
}
