/* The usage of a chat completion, a completion or an embedding, read as plain_usage.py reads it. */
#ifndef BURSAR_USAGE_H
#define BURSAR_USAGE_H

#include "json.h"

/* The fields of a Usage, in its order. */
enum {
    INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, CACHE_WRITE_1H, REASONING, AUDIO_IN, AUDIO_OUT, IMAGE_IN,
    IMAGE_OUT, CACHE_READ_AUDIO, SEARCHES, COUNTS,
};

/* All 0 but `hits` and `cached`, which are -1 where nobody says. */
struct usage {
    int64_t counts[COUNTS], total, hits, cached;
};

/* Both return 0, or -1 where a closer look is needed. The second makes of what was said what is charged. */
int read_usage(struct cursor *c, struct usage *usage);
int weigh_usage(struct usage *usage);
/* The counts, as a tuple. */
PyObject *counts_of(const struct usage *usage);

#endif
