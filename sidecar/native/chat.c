/* What an ordinary body of /v1/chat/completions asks, in one pass: the twin of read_typed_chat. */
#include "json.h"
#include <string.h>

#define MOST_BODY ((size_t)32 << 20)
#define SMALL_BODY 4096
#define MOST_MESSAGES 10000
#define MOST_MODEL 256
#define MOST_USER 512
#define MOST_WORD 64
#define MOST_ROLE 32

static PyObject *names[8];

int chat_init(void)
{
    static const char *const words[] = {"temperature", "top_p", "frequency_penalty", "presence_penalty",
                                        "seed", "reasoning_level", "service_tier", "max_tokens"};
    for (int place = 0; place < 8; place++)
        if ((names[place] = PyUnicode_InternFromString(words[place])) == NULL)
            return -1;
    return 0;
}


/* Room for what cannot be read in place: each has as many bytes as the body, which is never exceeded, since
   every byte of the body is unescaped, joined and marked at most once, and none grows by it. */
struct room {
    uint8_t *joined, *marks;
};

struct message {
    struct text role, text, call_id;
    const uint8_t *marks;
    size_t marks_size;
    size_t told; /* bytes of what tools are called with */
};

/* What is known of the request while it is read. */
struct chat {
    struct text model, user, reasoning, tier;
    int stream, has_seed;
    int64_t cap, cap_of_all, seed; /* caps are -1 where none is said */
    double numbers[4];
    unsigned numbers_said;
    PyObject *hashes, *others;
    uint64_t rolling, system;
    size_t bytes;
    struct message last;
    const uint8_t *list, *list_end; /* of the messages */
    const uint8_t *results;         /* the first of the messages of tools that stand last; NULL for none */
};

static int is_system(const struct text *role)
{
    return IS(*role, "system") || IS(*role, "developer");
}

static int is_tool(const struct text *role)
{
    return IS(*role, "tool") || IS(*role, "function");
}

/* Text, or nothing where null stands. */
static int read_text_or_null(struct cursor *c, struct text *out)
{
    out->size = 0;
    return TAKEN_NULL(c) ? 0 : read_text(c, out);
}

/* Content in parts of text: one text. */
static int read_parts(struct cursor *c, struct room *room, struct text *out)
{
    int more;
    out->data = room->joined;
    out->size = 0;
    if (!taken(c, '['))
        return -1;
    if (taken(c, ']'))
        return 0;
    skip_space(c);
    do {
        struct text name, kind, text;
        unsigned seen = 0;
        if (!taken(c, '{'))
            return -1;
        skip_space(c);
        do {
            if (read_name(c, &name) < 0)
                return -1;
            if (IS(name, "type")) {
                if (once(&seen, 0) < 0 || read_text(c, &kind) < 0)
                    return -1;
            } else if (IS(name, "text")) {
                if (once(&seen, 1) < 0 || read_text(c, &text) < 0)
                    return -1;
            } else
                return -1;
            more = next_member(c, '}');
        } while (more > 0);
        if (more < 0 || seen != 3)
            return -1;
        memcpy(room->joined, text.data, text.size);
        room->joined += text.size;
        out->size += text.size;
        more = next_member(c, ']');
    } while (more > 0);
    return more;
}

static int read_function(struct cursor *c, struct text *called, struct text *arguments)
{
    struct text name;
    unsigned seen = 0;
    int more;
    if (TAKEN_NULL(c))
        return 0;
    if (!taken(c, '{'))
        return -1;
    if (taken(c, '}'))
        return 0;
    skip_space(c);
    do {
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "name")) {
            /* Its characters are counted, not its bytes: so they have to be the same. */
            if (once(&seen, 0) < 0 || read_text(c, called) < 0 || !called->ascii)
                return -1;
        } else if (IS(name, "arguments")) {
            if (once(&seen, 1) < 0 || read_text(c, arguments) < 0)
                return -1;
        } else
            return -1;
        more = next_member(c, '}');
    } while (more > 0);
    return more;
}

/* One tool call of a message: its mark, and its bytes. */
static int read_call(struct cursor *c, struct room *room, struct message *message)
{
    struct text name, kind, id = {NULL, 0, 1}, called = {NULL, 0, 1}, arguments = {NULL, 0, 1};
    int64_t index;
    unsigned seen = 0;
    int more;
    if (!taken(c, '{'))
        return -1;
    if (!taken(c, '}')) {
        skip_space(c);
        do {
            if (read_name(c, &name) < 0)
                return -1;
            if (IS(name, "id")) {
                if (once(&seen, 0) < 0 || read_text_or_null(c, &id) < 0)
                    return -1;
            } else if (IS(name, "type")) {
                if (once(&seen, 1) < 0 || read_text(c, &kind) < 0)
                    return -1;
            } else if (IS(name, "function")) {
                if (once(&seen, 2) < 0 || read_function(c, &called, &arguments) < 0)
                    return -1;
            } else if (IS(name, "index")) {
                if (once(&seen, 3) < 0 || read_integer(c, &index) < 0)
                    return -1;
            } else
                return -1;
            more = next_member(c, '}');
        } while (more > 0);
        if (more < 0)
            return -1;
    }
    if (id.size > 0)
        memcpy(room->marks, id.data, id.size);
    room->marks[id.size] = '=';
    if (called.size > 0)
        memcpy(room->marks + id.size + 1, called.data, called.size);
    room->marks[id.size + 1 + called.size] = ';';
    room->marks += id.size + called.size + 2;
    message->told += called.size + arguments.size;
    return 0;
}

static int read_calls(struct cursor *c, struct room *room, struct message *message)
{
    int more;
    message->marks = room->marks;
    if (TAKEN_NULL(c))
        return 0;
    if (!taken(c, '['))
        return -1;
    if (taken(c, ']'))
        return 0;
    do {
        if (read_call(c, room, message) < 0)
            return -1;
        more = next_member(c, ']');
    } while (more > 0);
    message->marks_size = (size_t)(room->marks - message->marks);
    return more;
}

static int read_message(struct cursor *c, struct room *room, struct message *message)
{
    struct text name, unused;
    unsigned seen = 0;
    int more;
    memset(message, 0, sizeof *message);
    if (!taken(c, '{'))
        return -1;
    skip_space(c);
    do {
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "role")) {
            if (once(&seen, 0) < 0 || read_text(c, &message->role) < 0 || message->role.size > MOST_ROLE)
                return -1;
        } else if (IS(name, "content")) {
            if (once(&seen, 1) < 0)
                return -1;
            if (c->at < c->end && *c->at == '[') {
                if (read_parts(c, room, &message->text) < 0)
                    return -1;
            } else if (read_text_or_null(c, &message->text) < 0)
                return -1;
        } else if (IS(name, "tool_calls")) {
            if (once(&seen, 2) < 0 || read_calls(c, room, message) < 0)
                return -1;
        } else if (IS(name, "tool_call_id")) {
            if (once(&seen, 3) < 0 || read_text_or_null(c, &message->call_id) < 0)
                return -1;
        } else if (IS(name, "name")) {
            if (once(&seen, 4) < 0 || read_text_or_null(c, &unused) < 0)
                return -1;
        } else if (IS(name, "refusal")) {
            if (once(&seen, 5) < 0 || read_text_or_null(c, &unused) < 0)
                return -1;
        } else
            return -1;
        more = next_member(c, '}');
    } while (more > 0);
    return more < 0 || !(seen & 1) ? -1 : 0;
}

static uint64_t system_told(const struct text *text)
{
    uint32_t shape = crc32_shape(text->data, text->size, 0);
    uint64_t digest = (uint64_t)(shape & SHAPE_BITS) << 32 | crc32_of(text->data, text->size, 0);
    return digest ? digest : 1;
}

/* Adds a message to what is known. */
static int hear(struct chat *chat, const struct message *message)
{
    uint32_t seed = crc32_of(message->role.data, message->role.size, 0);
    if (chat->rolling == 0 && is_system(&message->role)) {
        char shape[20];
        chat->system = system_told(&message->text);
        int size = snprintf(shape, sizeof shape, "%llx", (unsigned long long)(chat->system >> 32));
        chat->rolling = folded(0, crc32_of((const uint8_t *)shape, (size_t)size, seed), NULL, 0);
    } else {
        seed = crc32_of(message->call_id.data, message->call_id.size, seed);
        seed = crc32_of(message->marks, message->marks_size, seed);
        chat->rolling = folded(chat->rolling, seed, message->text.data, message->text.size);
    }
    chat->bytes += message->text.size + message->told;
    PyObject *hash = PyLong_FromUnsignedLongLong(chat->rolling);
    if (hash == NULL)
        return -1;
    int failed = PyList_Append(chat->hashes, hash);
    Py_DECREF(hash);
    return failed;
}

static int read_messages(struct cursor *c, struct room *room, struct chat *chat)
{
    int more, number = 0;
    chat->list = c->at;
    if (c->at >= c->end || *c->at != '[')
        return -1;
    c->at++;
    if (!taken(c, ']')) {
        do {
            skip_space(c);
            const uint8_t *start = c->at;
            if (++number > MOST_MESSAGES || read_message(c, room, &chat->last) < 0 ||
                hear(chat, &chat->last) < 0)
                return -1;
            if (!is_tool(&chat->last.role))
                chat->results = NULL;
            else if (chat->results == NULL)
                chat->results = start;
            more = next_member(c, ']');
        } while (more > 0);
        if (more < 0)
            return -1;
    }
    chat->list_end = c->at;
    return 0;
}

/* The texts of the messages of tools that stand last, which were read once already. */
static PyObject *read_results(const struct chat *chat, uint8_t *space, size_t size)
{
    struct message message;
    struct cursor cursor = {chat->results, chat->list_end, space};
    struct room room = {space + size, space + 2 * size};
    PyObject *texts = PyList_New(0);
    if (texts == NULL || chat->results == NULL)
        return texts;
    do {
        PyObject *text = NULL;
        if (read_message(&cursor, &room, &message) == 0)
            text = PyBytes_FromStringAndSize((const char *)message.text.data, (Py_ssize_t)message.text.size);
        if (text == NULL || PyList_Append(texts, text) < 0) {
            Py_XDECREF(text);
            Py_DECREF(texts);
            return NULL;
        }
        Py_DECREF(text);
    } while (next_member(&cursor, ']') > 0);
    return texts;
}

enum {
    MODEL, MESSAGES, STREAM, TEMPERATURE, TOP_P, FREQUENCY, PRESENCE, CAP, CAP_OF_ALL, SEED, REASONING, TIER,
    USER, OTHERS, /* these are handed on as they are */
    UNREAD = OTHERS + 5, FIELDS = UNREAD + 8,
};

static const char *const fields[FIELDS] = {
    "model", "messages", "stream", "temperature", "top_p", "frequency_penalty", "presence_penalty",
    "max_tokens", "max_completion_tokens", "seed", "reasoning_effort", "service_tier", "user",
    "stream_options", "stop", "response_format", "tools", "functions",
    /* Nothing is read of these; should they be long, somebody has to look how deep they nest. */
    "tool_choice", "parallel_tool_calls", "store", "logprobs", "top_logprobs", "verbosity", "prompt_cache_key",
    "logit_bias",
};

#define SHALLOW 126 /* bytes; nothing shorter nests too deeply */

static unsigned field_of(const struct text *name)
{
    for (unsigned field = 0; field < FIELDS; field++)
        if (name->size == strlen(fields[field]) && memcmp(name->data, fields[field], name->size) == 0)
            return field;
    return FIELDS;
}

static int keep_other(struct chat *chat, unsigned field, const uint8_t *start, const uint8_t *end)
{
    PyObject *raw = PyBytes_FromStringAndSize((const char *)start, end - start);
    if (raw == NULL)
        return -1;
    int failed = PyDict_SetItemString(chat->others, fields[field], raw);
    Py_DECREF(raw);
    return failed;
}

static int read_field(struct cursor *c, struct room *room, struct chat *chat, unsigned field)
{
    const uint8_t *start = c->at;
    if (field == MESSAGES)
        return read_messages(c, room, chat);
    if (field == MODEL)
        return read_text(c, &chat->model);
    if (field >= OTHERS) {
        if (field == FIELDS || skip_value(c, 1) < 0)
            return -1;
        return field < UNREAD ? keep_other(chat, field, start, c->at) : c->at - start < SHALLOW ? 0 : -1;
    }
    if (TAKEN_NULL(c))
        return 0;
    switch (field) {
    case STREAM:
        chat->stream = taken_word(c, "true", 4);
        return chat->stream || taken_word(c, "false", 5) ? 0 : -1;
    case TEMPERATURE: case TOP_P: case FREQUENCY: case PRESENCE:
        chat->numbers_said |= 1u << (field - TEMPERATURE);
        return read_float(c, &chat->numbers[field - TEMPERATURE]);
    case CAP: return read_integer(c, &chat->cap) < 0 || chat->cap < 0 ? -1 : 0;
    case CAP_OF_ALL: return read_integer(c, &chat->cap_of_all) < 0 || chat->cap_of_all < 0 ? -1 : 0;
    case SEED:
        chat->has_seed = 1;
        return read_integer(c, &chat->seed);
    case REASONING: return read_text(c, &chat->reasoning) < 0 || chat->reasoning.size > MOST_WORD ? -1 : 0;
    case TIER: return read_text(c, &chat->tier) < 0 || chat->tier.size > MOST_WORD ? -1 : 0;
    default: return read_text(c, &chat->user) < 0 || chat->user.size > MOST_USER ? -1 : 0;
    }
}

/* The top level: compact, or with one space behind each comma and colon; any other way is unusual. */
static int read_fields(struct cursor *c, struct room *room, struct chat *chat)
{
    unsigned seen = 0;
    int spaced = -1;
    if (c->at >= c->end || *c->at++ != '{')
        return -1;
    for (;;) {
        struct text name;
        const uint8_t *start = c->at + 1;
        if (read_text(c, &name) < 0 || name.data != start || c->end - c->at < 2 || *c->at++ != ':')
            return -1;
        if (spaced < 0)
            spaced = *c->at == ' ';
        if (spaced && *c->at++ != ' ')
            return -1;
        unsigned field = field_of(&name);
        if (field == FIELDS || once(&seen, field) < 0 || read_field(c, room, chat, field) < 0)
            return -1;
        if (c->end - c->at == 1 && *c->at == '}')
            break;
        if (c->end - c->at < 2 || *c->at++ != ',' || (spaced && *c->at++ != ' '))
            return -1;
    }
    return (seen & 3) == 3 ? 0 : -1;
}

static int put(PyObject *attributes, PyObject *name, PyObject *value)
{
    if (value == NULL)
        return -1;
    int failed = PyDict_SetItem(attributes, name, value);
    Py_DECREF(value);
    return failed;
}

/* Under the names, and in the order, that the twin has. */
static PyObject *attributes_of(const struct chat *chat, int64_t cap)
{
    PyObject *found = PyDict_New();
    if (found == NULL)
        return NULL;
    int failed = 0;
    for (int place = 0; place < 4; place++)
        if (chat->numbers_said & 1u << place)
            failed |= put(found, names[place], PyFloat_FromDouble(chat->numbers[place]));
    if (chat->has_seed)
        failed |= put(found, names[4], PyLong_FromLongLong(chat->seed));
    if (chat->reasoning.data != NULL)
        failed |= put(found, names[5], text_object(&chat->reasoning));
    if (chat->tier.data != NULL)
        failed |= put(found, names[6], text_object(&chat->tier));
    if (cap >= 0)
        failed |= put(found, names[7], PyLong_FromLongLong(cap));
    if (failed) {
        Py_DECREF(found);
        return NULL;
    }
    return found;
}

/* Whether `text` holds a character that is no space, told by ASCII alone. */
static int says_something(const struct text *text)
{
    for (size_t place = 0; place < text->size; place++)
        if (text->data[place] > 0x20 && text->data[place] < 0x7f)
            return 1;
    return 0;
}

/* All that was read, as objects; what the scratch space holds is made into them before it is used again. */
static PyObject *result_of(struct chat *chat, const uint8_t *body, uint8_t *space, size_t size)
{
    int64_t cap = chat->cap_of_all < 0 ? chat->cap : chat->cap_of_all;
    uint64_t input = chat->last.role.data == NULL ? 0 : two_ways(chat->last.text.data, chat->last.text.size);
    PyObject *model = text_object(&chat->model), *user = text_object(&chat->user);
    PyObject *role = text_object(&chat->last.role), *attributes = attributes_of(chat, cap);
    PyObject *results = read_results(chat, space, size);
    if (model == NULL || user == NULL || role == NULL || attributes == NULL || results == NULL) {
        Py_XDECREF(model);
        Py_XDECREF(user);
        Py_XDECREF(role);
        Py_XDECREF(attributes);
        Py_XDECREF(results);
        return NULL;
    }
    return Py_BuildValue("(NNNNNOKKNKNOnn)", model, PyBool_FromLong(chat->stream),
                         cap < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(cap), attributes, user,
                         chat->hashes, (unsigned long long)chat->bytes, (unsigned long long)chat->system, role,
                         (unsigned long long)input, results, chat->others, (Py_ssize_t)(chat->list - body),
                         (Py_ssize_t)(chat->list_end - body));
}

/* read_chat(body: bytes, rolling: int) -> tuple | None */
PyObject *read_chat(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyBytes_Check(given[0]) || !PyLong_Check(given[1])) {
        PyErr_SetString(PyExc_TypeError, "read_chat(body: bytes, rolling: int)");
        return NULL;
    }
    const uint8_t *body = (const uint8_t *)PyBytes_AS_STRING(given[0]);
    size_t size = (size_t)PyBytes_GET_SIZE(given[0]);
    if (size > MOST_BODY)
        Py_RETURN_NONE;
    uint8_t small[3 * SMALL_BODY], *space = size <= SMALL_BODY ? small : PyMem_Malloc(3 * size);
    if (space == NULL)
        return PyErr_NoMemory();
    struct chat chat;
    memset(&chat, 0, sizeof chat);
    chat.cap = chat.cap_of_all = -1;
    chat.rolling = PyLong_AsUnsignedLongLongMask(given[1]);
    chat.hashes = PyList_New(0);
    chat.others = PyDict_New();
    struct cursor cursor = {body, body + size, space};
    struct room room = {space + size, space + 2 * size};
    PyObject *result = NULL;
    if (chat.hashes != NULL && chat.others != NULL) {
        if (read_fields(&cursor, &room, &chat) == 0 && chat.model.size <= MOST_MODEL &&
            says_something(&chat.model))
            result = result_of(&chat, body, space, size);
        else if (!PyErr_Occurred())
            result = Py_NewRef(Py_None);
    }
    Py_XDECREF(chat.hashes);
    Py_XDECREF(chat.others);
    if (space != small)
        PyMem_Free(space);
    return result;
}
