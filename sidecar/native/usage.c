/* The usage of a chat completion, a completion or an embedding: the twin of chat_usage. */
#include "usage.h"
#include <string.h>

#define MOST_TOKENS 100000000

static int read_count(struct cursor *c, int64_t *out)
{
    return read_integer(c, out) < 0 || *out < 0 || *out > MOST_TOKENS ? -1 : 0;
}

static int read_count_or_null(struct cursor *c, int64_t *out)
{
    return TAKEN_NULL(c) ? 0 : read_count(c, out);
}

struct count {
    const char *name;
    int64_t *value; /* NULL: of no interest */
};

/* An object of counts; a name that is not among them is unusual. */
static int read_counts(struct cursor *c, const struct count *counts)
{
    unsigned seen = 0;
    int more = TAKEN_NULL(c) ? 0 : begin_object(c);
    while (more > 0) {
        struct text name;
        unsigned place = 0;
        if (read_name(c, &name) < 0)
            return -1;
        while (counts[place].name != NULL && (strlen(counts[place].name) != name.size ||
                                              memcmp(counts[place].name, name.data, name.size) != 0))
            place++;
        if (counts[place].name == NULL || once(&seen, place) < 0 ||
            (counts[place].value == NULL ? skip_value(c, 1) : read_count_or_null(c, counts[place].value)) < 0)
            return -1;
        more = next_member(c, '}');
    }
    return more;
}

int read_usage(struct cursor *c, struct usage *usage)
{
    int64_t *counts = usage->counts;
    const struct count prompt[] = {
        {"cached_tokens", &usage->cached}, {"audio_tokens", &counts[AUDIO_IN]},
        {"image_tokens", &counts[IMAGE_IN]}, {"cache_write_tokens", &counts[CACHE_WRITE]},
        {"text_tokens", NULL}, {NULL, NULL},
    };
    const struct count output[] = {
        {"reasoning_tokens", &counts[REASONING]}, {"audio_tokens", &counts[AUDIO_OUT]},
        {"image_tokens", &counts[IMAGE_OUT]}, {"text_tokens", NULL}, {"accepted_prediction_tokens", NULL},
        {"rejected_prediction_tokens", NULL}, {NULL, NULL},
    };
    unsigned seen = 0;
    int more = begin_object(c);
    while (more > 0) {
        struct text name;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "prompt_tokens")) {
            if (once(&seen, 0) < 0 || read_count(c, &counts[INPUT]) < 0)
                return -1;
        } else if (IS(name, "completion_tokens")) {
            if (once(&seen, 1) < 0 || read_count(c, &counts[OUTPUT]) < 0)
                return -1;
        } else if (IS(name, "total_tokens")) {
            if (once(&seen, 2) < 0 || read_count(c, &usage->total) < 0)
                return -1;
        } else if (IS(name, "prompt_tokens_details")) {
            if (once(&seen, 3) < 0 || read_counts(c, prompt) < 0)
                return -1;
        } else if (IS(name, "completion_tokens_details")) {
            if (once(&seen, 4) < 0 || read_counts(c, output) < 0)
                return -1;
        } else if (IS(name, "prompt_cache_hit_tokens")) {
            if (once(&seen, 5) < 0 || read_count_or_null(c, &usage->hits) < 0)
                return -1;
        } else if (IS(name, "prompt_cache_miss_tokens") || IS(name, "queue_time") || IS(name, "prompt_time") ||
                   IS(name, "completion_time") || IS(name, "total_time")) {
            if (skip_value(c, 1) < 0)
                return -1;
        } else
            return -1;
        more = next_member(c, '}');
    }
    return more < 0 || !(seen & 1) ? -1 : 0;
}

/* By the rules of chat_usage. */
int weigh_usage(struct usage *usage)
{
    int64_t *counts = usage->counts;
    if (counts[REASONING] && usage->total == counts[INPUT] + counts[OUTPUT] + counts[REASONING])
        counts[OUTPUT] += counts[REASONING]; /* xAI counts reasoning beside the completion. */
    counts[CACHE_READ] = usage->cached >= 0 ? usage->cached : usage->hits >= 0 ? usage->hits : 0;
    return counts[CACHE_READ] + counts[CACHE_WRITE] > counts[INPUT] || counts[REASONING] > counts[OUTPUT] ? -1 : 0;
}

PyObject *counts_of(const struct usage *usage)
{
    PyObject *counts = PyTuple_New(COUNTS);
    for (int place = 0; counts != NULL && place < COUNTS; place++) {
        PyObject *count = PyLong_FromLongLong(usage->counts[place]);
        if (count == NULL) {
            Py_DECREF(counts);
            return NULL;
        }
        PyTuple_SET_ITEM(counts, place, count);
    }
    return counts;
}

