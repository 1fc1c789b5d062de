/* A reader of JSON that takes what is ordinary and gives up on all else. */
#ifndef BURSAR_JSON_H
#define BURSAR_JSON_H

#include "native.h"

#define NESTED_AT_MOST 48

/* Where reading stands. `scratch` has room for all that is left between `at` and `end`, unescaped. */
struct cursor {
    const uint8_t *at, *end;
    uint8_t *scratch;
};

/* Text, unescaped: a piece of what is read, or of the scratch space. */
struct text {
    const uint8_t *data;
    size_t size;
    int ascii;
};

/* All return 0, or -1 where something stands there that is not ordinary, or not JSON. */
int read_text(struct cursor *c, struct text *out);
int read_integer(struct cursor *c, int64_t *out);
int read_float(struct cursor *c, double *out);
int skip_value(struct cursor *c, int depth);
/* Text of no more than `most` bytes. */
int read_short(struct cursor *c, struct text *out, size_t most);
int read_short_or_null(struct cursor *c, struct text *out, size_t most);

void skip_space(struct cursor *c);
/* Whether `byte` comes next, behind space; it is taken if so. */
int taken(struct cursor *c, uint8_t byte);
/* Whether `word` comes next; it is taken if so. */
int taken_word(struct cursor *c, const char *word, size_t size);
/* After a member: 1 for another one, 0 for the end of what `closing` closes, -1. */
int next_member(struct cursor *c, uint8_t closing);
/* No list, or an empty one. */
int read_empty(struct cursor *c);
/* The beginning of an object: 1 where it has members, 0 where it has none, -1. */
int begin_object(struct cursor *c);
/* The name of a member, without escapes, and its colon. */
int read_name(struct cursor *c, struct text *name);

#define TAKEN_NULL(c) taken_word((c), "null", 4)
#define IS(text, literal) \
    ((text).size == sizeof(literal) - 1 && memcmp((text).data, literal, sizeof(literal) - 1) == 0)

/* Marks a name that is met for the first time; -1 where it came before. */
static inline int once(unsigned *seen, unsigned bit)
{
    if (*seen & 1u << bit)
        return -1;
    *seen |= 1u << bit;
    return 0;
}

PyObject *text_object(const struct text *text);

#endif
