/* What an ordinary chunk of a stream in OpenAI's chat dialect says: the twin of read_plain_chunk. */
#include "outcome.h"
#include "usage.h"
#include <string.h>

#define MOST_CHUNK 8192
#define MOST_NAME 256
#define MOST_TIER 64
#define MOST_FINGERPRINT 128

enum choices { UNKNOWN, NONE, ONE };

struct chunk {
    struct text id, model, tier, fingerprint;
    struct text reason, said, content, thought, thought_too, refusal;
    struct text usage_block;
    int64_t created;
    enum choices choices;
    int has_delta;
    struct usage usage;
};

static int read_delta(struct cursor *c, struct chunk *chunk)
{
    unsigned seen = 0;
    int more = TAKEN_NULL(c) ? -2 : begin_object(c);
    if (more == -2)
        return 0;
    chunk->has_delta = 1;
    while (more > 0) {
        struct text name;
        int failed;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "content"))
            failed = once(&seen, 0) < 0 || read_short_or_null(c, &chunk->content, MOST_CHUNK) < 0;
        else if (IS(name, "reasoning_content"))
            failed = once(&seen, 1) < 0 || read_short_or_null(c, &chunk->thought, MOST_CHUNK) < 0;
        else if (IS(name, "reasoning"))
            failed = once(&seen, 2) < 0 || read_short_or_null(c, &chunk->thought_too, MOST_CHUNK) < 0;
        else if (IS(name, "refusal"))
            failed = once(&seen, 3) < 0 || read_short_or_null(c, &chunk->refusal, MOST_CHUNK) < 0;
        else if (IS(name, "tool_calls") || IS(name, "function_call"))
            failed = !TAKEN_NULL(c);
        else if (IS(name, "annotations"))
            failed = once(&seen, 4) < 0 || read_empty(c) < 0; /* Who cites has searched. */
        else
            failed = skip_value(c, 1) < 0;
        if (failed)
            return -1;
        more = next_member(c, '}');
    }
    return more;
}

static int read_choice(struct cursor *c, struct chunk *chunk)
{
    unsigned seen = 0;
    int more = begin_object(c);
    while (more > 0) {
        struct text name;
        int64_t index = 0;
        int failed;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "index"))
            failed = once(&seen, 0) < 0 || read_integer(c, &index) < 0 || index != 0;
        else if (IS(name, "delta"))
            failed = once(&seen, 1) < 0 || read_delta(c, chunk) < 0;
        else if (IS(name, "text"))
            failed = once(&seen, 2) < 0 || read_short_or_null(c, &chunk->said, MOST_CHUNK) < 0;
        else if (IS(name, "finish_reason"))
            failed = once(&seen, 3) < 0 || read_short_or_null(c, &chunk->reason, MOST_NAME) < 0;
        else if (IS(name, "stop_reason") || IS(name, "message") || IS(name, "error") || IS(name, "usage"))
            failed = !TAKEN_NULL(c);
        else
            failed = skip_value(c, 1) < 0;
        if (failed)
            return -1;
        more = next_member(c, '}');
    }
    return more;
}

/* No choice, or one. */
static int read_choices(struct cursor *c, struct chunk *chunk)
{
    if (TAKEN_NULL(c))
        return 0;
    if (!taken(c, '['))
        return -1;
    if (taken(c, ']')) {
        chunk->choices = NONE;
        return 0;
    }
    chunk->choices = ONE;
    return read_choice(c, chunk) < 0 || !taken(c, ']') ? -1 : 0;
}

static int read_block(struct cursor *c, struct chunk *chunk)
{
    if (TAKEN_NULL(c))
        return 0;
    chunk->usage_block.data = c->at;
    if (read_usage(c, &chunk->usage) < 0 || weigh_usage(&chunk->usage) < 0)
        return -1;
    chunk->usage_block.size = (size_t)(c->at - chunk->usage_block.data);
    return 0;
}

static int read_members(struct cursor *c, struct chunk *chunk)
{
    unsigned seen = 0;
    int more;
    skip_space(c);
    more = begin_object(c);
    while (more > 0) {
        struct text name;
        int failed;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "id"))
            failed = once(&seen, 0) < 0 || read_short(c, &chunk->id, MOST_NAME) < 0;
        else if (IS(name, "model"))
            failed = once(&seen, 1) < 0 || read_short(c, &chunk->model, MOST_NAME) < 0;
        else if (IS(name, "created"))
            failed = once(&seen, 2) < 0 || (!TAKEN_NULL(c) && read_integer(c, &chunk->created) < 0);
        else if (IS(name, "choices"))
            failed = once(&seen, 3) < 0 || read_choices(c, chunk) < 0;
        else if (IS(name, "usage"))
            failed = once(&seen, 4) < 0 || read_block(c, chunk) < 0;
        else if (IS(name, "service_tier"))
            failed = once(&seen, 5) < 0 || read_short_or_null(c, &chunk->tier, MOST_TIER) < 0;
        else if (IS(name, "system_fingerprint"))
            failed = once(&seen, 6) < 0 || read_short_or_null(c, &chunk->fingerprint, MOST_FINGERPRINT) < 0;
        else if (IS(name, "object"))
            failed = once(&seen, 7) < 0 || read_kind(c) < 0;
        else if (IS(name, "base_resp"))
            failed = once(&seen, 8) < 0 || read_base_resp(c) < 0;
        else if (IS(name, "error") || IS(name, "x_groq") || IS(name, "timings"))
            failed = !TAKEN_NULL(c);
        else
            failed = skip_value(c, 1) < 0;
        if (failed)
            return -1;
        more = next_member(c, '}');
    }
    skip_space(c);
    return more < 0 || c->at != c->end ? -1 : 0;
}

static PyObject *bytes_or_none(const struct text *text)
{
    if (text->data == NULL)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((const char *)text->data, (Py_ssize_t)text->size);
}

static PyObject *text_or_none(const struct text *text)
{
    return text->data == NULL ? Py_NewRef(Py_None) : text_object(text);
}

/* read_chunk(payload: bytes) -> tuple | None */
PyObject *read_chunk(PyObject *Py_UNUSED(module), PyObject *payload)
{
    if (!PyBytes_Check(payload)) {
        PyErr_SetString(PyExc_TypeError, "read_chunk(payload: bytes)");
        return NULL;
    }
    uint8_t scratch[MOST_CHUNK];
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(payload);
    size_t size = (size_t)PyBytes_GET_SIZE(payload);
    if (size > MOST_CHUNK)
        Py_RETURN_NONE;
    struct chunk chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.usage.hits = chunk.usage.cached = -1;
    struct cursor cursor = {start, start + size, scratch};
    if (read_members(&cursor, &chunk) < 0)
        Py_RETURN_NONE;
    const struct text *thought = chunk.thought.size > 0 ? &chunk.thought : &chunk.thought_too;
    return Py_BuildValue("(NNLNNiNNNNNN)", text_object(&chunk.id), text_object(&chunk.model),
                         (long long)chunk.created, text_or_none(&chunk.tier), text_or_none(&chunk.fingerprint),
                         (int)chunk.choices, text_object(&chunk.reason), bytes_or_none(chunk.has_delta ? &chunk.content : &chunk.said),
                         bytes_or_none(thought), bytes_or_none(&chunk.refusal), bytes_or_none(&chunk.usage_block),
                         chunk.usage_block.data != NULL ? counts_of(&chunk.usage) : Py_NewRef(Py_None));
}
