// Preloaded into a redis-server: its wall clock shows what the test wrote, and stands still until the test writes again,
// or it goes on, as far ahead of or behind the real one as the test wrote.
//
// $TEST_CLOCK names a file of eight bytes, which is mapped, so that a new time counts at once: microseconds since 1970
// to stand still at, or, if that would be before 1973, microseconds to be ahead. Clocks other than the wall clock go on by the plain system call: looking up the C library's own functions
// would allocate, and the server's allocator reads a clock before it can allocate.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *set_us;
static const int64_t in_1973 = 100000000000000;

__attribute__((constructor)) static void map_the_clock(void) {
  const char *path = getenv("TEST_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *set_us, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) {
    // A server on the real clock would make tests pass or fail by chance.
    fputs("test_clock: cannot map the file in TEST_CLOCK\n", stderr);
    _exit(70);
  }
  close(file);
  set_us = mapped;
}

// Libraries may ask before the constructor above has run; the real time is good enough for them.
static int64_t wall_us(void) {
  int64_t set = set_us ? *set_us : 0;
  if (in_1973 < set) return set;
  struct timespec real;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
  return (int64_t)real.tv_sec * 1000000 + real.tv_nsec / 1000 + set;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return (int)syscall(SYS_clock_gettime, clock, time);
  int64_t us = wall_us();
  time->tv_sec = us / 1000000;
  time->tv_nsec = us % 1000000 * 1000;
  return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  int64_t us = wall_us();
  *time = (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
  return 0;
}

time_t time(time_t *seconds) {
  time_t now = wall_us() / 1000000;
  if (seconds) *seconds = now;
  return now;
}
