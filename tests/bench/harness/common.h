/* What the upstream and the load generator share: the clock, and the mark that each streamed
 * chunk carries, so that the receiver can tell how long it was under way (same machine, same clock). */
#ifndef COMMON_H
#define COMMON_H
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

/* "@T" + 19 digits of CLOCK_MONOTONIC nanoseconds + "@" */
#define MARK_LENGTH 22

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void *need(void *p) {
  if (!p) { fputs("out of memory\n", stderr); exit(1); }
  return p;
}

static inline void raise_file_limit(void) {
  struct rlimit r;
  getrlimit(RLIMIT_NOFILE, &r);
  r.rlim_cur = r.rlim_max;
  setrlimit(RLIMIT_NOFILE, &r);
}
#endif
