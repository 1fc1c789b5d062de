/* What an ordinary whole reply in OpenAI's chat dialect says, in one pass: the twin of read_whole_chat. */
#include "outcome.h"
#include "usage.h"
#include <string.h>

#define MOST_BODY ((size_t)1 << 20)
#define SMALL_BODY 4096
#define MOST_NAME 256
#define MOST_TIER 64
#define MOST_FINGERPRINT 128
#define MOST_TOOLS 1024

struct completion {
    struct text id, model, tier, fingerprint;
    struct text reason, said, spoken, content, thought, thought_too, refusal;
    int has_message;
    struct usage usage;
    PyObject *tools, *digests;
    uint8_t *marks;
    size_t marks_size, written;
};

static int add(PyObject *list, PyObject *value)
{
    if (value == NULL)
        return -1;
    int failed = PyList_Append(list, value);
    Py_DECREF(value);
    return failed;
}

/* A tool call: its name, its digest, its mark. */
static int hear_call(struct completion *reply, const struct text *id, const struct text *name,
                     const struct text *arguments)
{
    uint8_t *marks = reply->marks + reply->marks_size;
    uint32_t named = crc32_of(name->data, name->size, 0);
    uint64_t digest = (uint64_t)(crc32_shape(arguments->data, arguments->size, named) & SHAPE_BITS) << 32 |
                      crc32_of(arguments->data, arguments->size, named);
    if (id->size > 0)
        memcpy(marks, id->data, id->size);
    marks[id->size] = '=';
    if (name->size > 0)
        memcpy(marks + id->size + 1, name->data, name->size);
    marks[id->size + 1 + name->size] = ';';
    reply->marks_size += id->size + name->size + 2;
    reply->written += name->size + arguments->size;
    if (PyList_GET_SIZE(reply->tools) >= MOST_TOOLS || add(reply->tools, text_object(name)) < 0)
        return -1;
    return add(reply->digests, PyLong_FromUnsignedLongLong(digest ? digest : 1));
}

static int read_function(struct cursor *c, struct text *called, struct text *arguments)
{
    unsigned seen = 0;
    int more = begin_object(c);
    while (more > 0) {
        struct text name;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "name")) {
            /* Its characters are counted, not its bytes: so they have to be the same. */
            if (once(&seen, 0) < 0 || read_short(c, called, MOST_NAME) < 0 || !called->ascii)
                return -1;
        } else if (IS(name, "arguments")) {
            if (once(&seen, 1) < 0 || read_text(c, arguments) < 0)
                return -1;
        } else if (skip_value(c, 1) < 0)
            return -1;
        more = next_member(c, '}');
    }
    return more;
}

static int read_call(struct cursor *c, struct completion *reply)
{
    struct text id = {NULL, 0, 1}, called = {NULL, 0, 1}, arguments = {NULL, 0, 1};
    unsigned seen = 0;
    int more = begin_object(c);
    while (more > 0) {
        struct text name;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "function")) {
            if (once(&seen, 0) < 0 || read_function(c, &called, &arguments) < 0)
                return -1;
        } else if (IS(name, "id")) {
            if (once(&seen, 1) < 0 || read_short(c, &id, MOST_NAME) < 0)
                return -1;
        } else if (skip_value(c, 1) < 0)
            return -1;
        more = next_member(c, '}');
    }
    if (more < 0 || !(seen & 1) || (id.size == 0 && called.size == 0))
        return -1;
    return hear_call(reply, &id, &called, &arguments);
}

static int read_calls(struct cursor *c, struct completion *reply)
{
    int more;
    if (TAKEN_NULL(c))
        return 0;
    if (!taken(c, '['))
        return -1;
    if (taken(c, ']'))
        return 0;
    do {
        if (read_call(c, reply) < 0)
            return -1;
        more = next_member(c, ']');
    } while (more > 0);
    return more;
}

static int read_message(struct cursor *c, struct completion *reply)
{
    unsigned seen = 0;
    int more = TAKEN_NULL(c) ? -2 : begin_object(c);
    if (more == -2)
        return 0;
    reply->has_message = 1;
    while (more > 0) {
        struct text name;
        int failed;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "content"))
            failed = once(&seen, 0) < 0 || read_short_or_null(c, &reply->content, MOST_BODY) < 0;
        else if (IS(name, "tool_calls"))
            failed = once(&seen, 1) < 0 || read_calls(c, reply) < 0;
        else if (IS(name, "reasoning_content"))
            failed = once(&seen, 2) < 0 || read_short_or_null(c, &reply->thought, MOST_BODY) < 0;
        else if (IS(name, "reasoning"))
            failed = once(&seen, 3) < 0 || read_short_or_null(c, &reply->thought_too, MOST_BODY) < 0;
        else if (IS(name, "refusal"))
            failed = once(&seen, 4) < 0 || read_short_or_null(c, &reply->refusal, MOST_BODY) < 0;
        else if (IS(name, "function_call"))
            failed = !TAKEN_NULL(c);
        else if (IS(name, "annotations"))
            failed = once(&seen, 5) < 0 || read_empty(c) < 0; /* Who cites has searched. */
        else
            failed = skip_value(c, 1) < 0;
        if (failed)
            return -1;
        more = next_member(c, '}');
    }
    return more;
}

static int read_choice(struct cursor *c, struct completion *reply)
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
        else if (IS(name, "message"))
            failed = once(&seen, 1) < 0 || read_message(c, reply) < 0;
        else if (IS(name, "text"))
            failed = once(&seen, 2) < 0 || read_short_or_null(c, &reply->said, MOST_BODY) < 0;
        else if (IS(name, "finish_reason"))
            failed = once(&seen, 3) < 0 || read_short_or_null(c, &reply->reason, MOST_NAME) < 0;
        else if (IS(name, "error"))
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
static int read_choices(struct cursor *c, struct completion *reply)
{
    if (!taken(c, '['))
        return -1;
    if (taken(c, ']'))
        return 0;
    return read_choice(c, reply) < 0 || !taken(c, ']') ? -1 : 0;
}

static int read_reply(struct cursor *c, struct completion *reply)
{
    unsigned seen = 0;
    int more = begin_object(c);
    while (more > 0) {
        struct text name;
        int failed;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "id"))
            failed = once(&seen, 0) < 0 || read_short(c, &reply->id, MOST_NAME) < 0;
        else if (IS(name, "model"))
            failed = once(&seen, 1) < 0 || read_short(c, &reply->model, MOST_NAME) < 0;
        else if (IS(name, "choices"))
            failed = once(&seen, 2) < 0 || read_choices(c, reply) < 0;
        else if (IS(name, "usage"))
            failed = once(&seen, 3) < 0 || read_usage(c, &reply->usage) < 0;
        else if (IS(name, "service_tier"))
            failed = once(&seen, 4) < 0 || read_short_or_null(c, &reply->tier, MOST_TIER) < 0;
        else if (IS(name, "system_fingerprint"))
            failed = once(&seen, 5) < 0 || read_short_or_null(c, &reply->fingerprint, MOST_FINGERPRINT) < 0;
        else if (IS(name, "object"))
            failed = once(&seen, 6) < 0 || read_kind(c) < 0;
        else if (IS(name, "base_resp"))
            failed = once(&seen, 7) < 0 || read_base_resp(c) < 0;
        else if (IS(name, "error") || IS(name, "x_groq") || IS(name, "timings"))
            failed = !TAKEN_NULL(c);
        else
            failed = skip_value(c, 1) < 0;
        if (failed)
            return -1;
        more = next_member(c, '}');
    }
    skip_space(c);
    return more < 0 || c->at != c->end || !(seen & 1u << 3) ? -1 : 0;
}

static int begins(const struct text *text, const char *word)
{
    return text->size >= strlen(word) && memcmp(text->data, word, strlen(word)) == 0;
}

static PyObject *result_of(struct completion *reply, uint64_t rolling)
{
    const struct text *said = reply->has_message ? &reply->content : &reply->said;
    const struct text *thought = reply->thought.size > 0 ? &reply->thought : &reply->thought_too;
    size_t bytes = said->size + thought->size + reply->refusal.size + reply->written;
    uint64_t after = 0;
    if (rolling && (said->size > 0 || reply->marks_size > 0)) {
        uint32_t seed = crc32_of((const uint8_t *)"assistant", 9, 0);
        after = folded(rolling, crc32_of(reply->marks, reply->marks_size, seed), said->data, said->size);
    }
    PyObject *reasons = PyList_New(0);
    if (reasons == NULL || (reply->reason.size > 0 && add(reasons, text_object(&reply->reason)) < 0)) {
        Py_XDECREF(reasons);
        return NULL;
    }
    return Py_BuildValue("(NNNNOOnnNNK)", counts_of(&reply->usage), text_object(&reply->id), text_object(&reply->model),
                         reasons, reply->tools, reply->digests, (Py_ssize_t)bytes, (Py_ssize_t)thought->size,
                         text_object(&reply->tier), text_object(&reply->fingerprint), (unsigned long long)after);
}

/* read_completion(body: bytes, rolling: int) -> tuple | None */
PyObject *read_completion(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyBytes_Check(given[0]) || !PyLong_Check(given[1])) {
        PyErr_SetString(PyExc_TypeError, "read_completion(body: bytes, rolling: int)");
        return NULL;
    }
    const uint8_t *body = (const uint8_t *)PyBytes_AS_STRING(given[0]);
    size_t size = (size_t)PyBytes_GET_SIZE(given[0]);
    if (size > MOST_BODY)
        Py_RETURN_NONE;
    uint8_t small[2 * SMALL_BODY], *space = size <= SMALL_BODY ? small : PyMem_Malloc(2 * size);
    if (space == NULL)
        return PyErr_NoMemory();
    struct completion reply;
    memset(&reply, 0, sizeof reply);
    reply.usage.hits = reply.usage.cached = -1;
    reply.marks = space + size;
    reply.tools = PyList_New(0);
    reply.digests = PyList_New(0);
    struct cursor cursor = {body, body + size, space};
    PyObject *result = NULL;
    if (reply.tools != NULL && reply.digests != NULL) {
        if (read_reply(&cursor, &reply) == 0 && weigh_usage(&reply.usage) == 0 && !begins(&reply.model, "gemini") &&
            !begins(&reply.model, "google/gemini"))
            result = result_of(&reply, PyLong_AsUnsignedLongLongMask(given[1]));
        else if (!PyErr_Occurred())
            result = Py_NewRef(Py_None);
    }
    Py_XDECREF(reply.tools);
    Py_XDECREF(reply.digests);
    if (space != small)
        PyMem_Free(space);
    return result;
}

/* filled(cls: type, members: tuple, values: tuple) -> cls: an instance whose slots hold these values */
PyObject *filled(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 3 || !PyType_Check(given[0]) || !PyTuple_Check(given[1]) || !PyTuple_Check(given[2]) ||
        PyTuple_GET_SIZE(given[1]) != PyTuple_GET_SIZE(given[2])) {
        PyErr_SetString(PyExc_TypeError, "filled(cls: type, members: tuple, values: tuple)");
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)given[0];
    PyObject *made = type->tp_alloc(type, 0);
    for (Py_ssize_t place = 0; made != NULL && place < PyTuple_GET_SIZE(given[1]); place++) {
        PyObject *member = PyTuple_GET_ITEM(given[1], place);
        /* A member descriptor looks itself whether the object is one of its class. */
        if (!Py_IS_TYPE(member, &PyMemberDescr_Type) ||
            Py_TYPE(member)->tp_descr_set(member, made, PyTuple_GET_ITEM(given[2], place)) < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "a member of a class with slots is wanted");
            Py_CLEAR(made);
        }
    }
    return made;
}
