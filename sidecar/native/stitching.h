/* What the files of stitching share; collector/domain/stitching.py says what all of it means. */
#ifndef BURSAR_STITCHING_H
#define BURSAR_STITCHING_H

#include "native.h"

/* In the order of the enumeration Via. */
enum via { EXPLICIT, RESPONSE, REPLY, REQUEST, REPEAT, MOVED, RUN, NEW, VIAS };

/* As in sidecar/wire/hashing.py: after = before * CHAIN + crc * WORD + length, in 63 bits. */
#define BITS (UINT64_MAX >> 1)
#define CHAIN 2654435761u
#define WORD 2246822519u

#define STRONG_BYTES 64
#define PROBES 1024
#define LONG_OPENING 32
#define MOST_SHARING 4

typedef struct stitcher Stitcher;

/* What is known of one tenant's key and user. */
typedef struct {
    PyObject_HEAD
    Stitcher *owner; /* alive as long as any conversation is remembered */
    PyObject *name;
    PyObject *by_id; /* conversations by their ids */
    PyObject *runs;  /* conversations by their runs; NULL before the first */
    uint64_t serial;
} Scope;

/* A state by its rolling hash, a message by the complement of its digest; a response by the hash of its id,
   where the last bit of the realm is set. */
typedef struct {
    int64_t number;
    uint64_t realm; /* twice the serial number of a scope */
} Key;

typedef struct conversation {
    PyObject_HEAD
    Scope *scope;
    PyObject *id;
    PyObject *run; /* NULL for none */
    struct conversation *earlier, *later; /* heard of just before and just after it */
    int64_t opening;
    int64_t branches;
    Key *kept; /* what the index has of it, oldest first */
    uint32_t count, room;
    char failed;
    char remembered;
} Conversation;

typedef struct {
    PyObject_HEAD
    Conversation *conversation;
    int64_t number;
    int64_t head, tail;
    int64_t response; /* the hash of its last response's id, -1 for none */
} Branch;

/* Whose a key is once two conversations have had it, and for ever after; oldest first. */
typedef struct {
    PyObject_HEAD
    int count;
    Branch *lines[MOST_SHARING];
} Sharing;

typedef struct {
    Key key;
    PyObject *whose; /* a Branch or a Sharing; NULL: the slot is free */
} Slot;

/* Open addressing, the next slot where one is taken. */
typedef struct {
    Slot *slots;
    size_t mask, used;
    uint64_t seed;
} Index;

struct stitcher {
    PyObject_HEAD
    Py_ssize_t most_conversations, most_hashes, most_each;
    Py_ssize_t conversations, hashes, forgotten;
    PyObject *scopes; /* by their names */
    uint64_t serial;
    Index index;
    Conversation *oldest, *newest; /* in the order in which they were last heard of */
    PyObject *vias;
};

/* Of a request, read when they are looked at: mostly that is the end of them. */
typedef struct {
    PyObject *const *items;
    Py_ssize_t count;
    int wrong; /* one that was looked at is no whole number */
} Hashes;

/* The line that a request goes on (a reference of the finder's own; NULL for none), why, and how many of its
   messages were known. */
typedef struct {
    Branch *line;
    enum via via;
    Py_ssize_t shared;
} Found;

extern PyTypeObject scope_type, conversation_type, branch_type, sharing_type;

static inline Key key_of(const Scope *scope, int64_t number)
{
    return (Key){.number = number, .realm = scope->serial << 1};
}

static inline Key response_key(const Scope *scope, int64_t response)
{
    return (Key){.number = response, .realm = scope->serial << 1 | 1};
}

static inline int64_t hash_at(Hashes *hashes, Py_ssize_t position)
{
    PyObject *item = hashes->items[position];
    if (!PyLong_Check(item)) {
        hashes->wrong = 1;
        return 0;
    }
    return (int64_t)PyLong_AsUnsignedLongLongMask(item);
}

/* Of the message between two states. */
static inline uint64_t digest_of(int64_t before, int64_t after)
{
    return ((uint64_t)after - (uint64_t)before * CHAIN) & BITS;
}

/* stitching_rules.c: an error leaves an exception, and no line. */
Found lookup(Stitcher *self, Scope *scope, Hashes *hashes, Py_ssize_t shared_by_all);
Found answering(Stitcher *self, Scope *scope, int64_t response);
Branch *line_at(Branch *line, int64_t state);
int is_strong(uint64_t digest);

/* stitching_memory.c: -1 or NULL with an exception. */
PyObject *whose(const Index *index, Key key);
Scope *scope_named(Stitcher *self, PyObject *name);
Conversation *begin(Stitcher *self, Scope *scope, PyObject *id, int64_t opening);
Branch *branch_of(Conversation *conversation);
void heard_of(Stitcher *self, Conversation *conversation);
int note(Stitcher *self, Branch *line, Key key);
int forget(Stitcher *self, Conversation *spared);
void forget_all(Stitcher *self);

#endif
