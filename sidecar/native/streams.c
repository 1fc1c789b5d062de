/* Chunks of an event stream that only add text, as nearly all do: framing, events and JSON in one pass.
 *
 * What is told of an event is what read_ordinary_chunk, read_ordinary_event and read_ordinary_delta of
 * sidecar/wire tell of it. Whatever is not as expected makes the pass give up, and Python reads. */
#include "native.h"
#include <stddef.h>
#include <string.h>
#include <structmember.h>

enum dialect { CHAT, MESSAGES, RESPONSES };
enum kind { SAID, THOUGHT, ARGUED, NOTHING };

#define DEEPEST 32
#define LONGEST_SIZE 5 /* hexadecimal digits of a chunk's size */

typedef struct {
    const uint8_t *at, *end;
    uint8_t *text; /* where decoded text goes next; there is always room, for decoding never lengthens */
} Cursor;

static int takes(Cursor *c, const char *word, size_t size)
{
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return 0;
    c->at += size;
    return 1;
}
#define TAKES(cursor, literal) takes(cursor, literal, sizeof(literal) - 1)

static void skip_blanks(Cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
        c->at++;
}

/* Past `byte`, and the blanks around it. */
static int takes_mark(Cursor *c, uint8_t byte)
{
    skip_blanks(c);
    if (c->at >= c->end || *c->at != byte)
        return 0;
    c->at++;
    skip_blanks(c);
    return 1;
}

/* ---- strings ---- */

static int hex4(Cursor *c, uint32_t *value)
{
    if (c->end - c->at < 4)
        return 0;
    *value = 0;
    for (int digit = 0; digit < 4; digit++) {
        uint8_t byte = *c->at++;
        uint32_t worth = byte >= '0' && byte <= '9'   ? byte - '0' + 0u
                         : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10u
                         : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10u
                                                      : 16u;
        if (worth > 15)
            return 0;
        *value = *value << 4 | worth;
    }
    return 1;
}

/* The character of a \u, both halves of a pair together. */
static int take_escaped(Cursor *c)
{
    uint32_t code, low;
    if (!hex4(c, &code) || (code >= 0xdc00 && code <= 0xdfff))
        return 0;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (!TAKES(c, "\\u") || !hex4(c, &low) || low < 0xdc00 || low > 0xdfff)
            return 0;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code < 0x80) {
        *c->text++ = (uint8_t)code;
    } else if (code < 0x800) {
        *c->text++ = (uint8_t)(0xc0 | code >> 6);
        *c->text++ = (uint8_t)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *c->text++ = (uint8_t)(0xe0 | code >> 12);
        *c->text++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        *c->text++ = (uint8_t)(0x80 | (code & 0x3f));
    } else {
        *c->text++ = (uint8_t)(0xf0 | code >> 18);
        *c->text++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        *c->text++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        *c->text++ = (uint8_t)(0x80 | (code & 0x3f));
    }
    return 1;
}

/* One character beyond ASCII in well-formed UTF-8 (Unicode 15, table 3-7). */
static int take_wide(Cursor *c)
{
    uint8_t first = *c->at;
    int more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
    if (!more || c->end - c->at <= more)
        return 0;
    uint8_t second = c->at[1];
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
        (first == 0xf4 && second > 0x8f))
        return 0;
    for (int place = 1; place <= more; place++)
        if ((c->at[place] & 0xc0) != 0x80)
            return 0;
    memcpy(c->text, c->at, (size_t)more + 1);
    c->text += more + 1;
    c->at += more + 1;
    return 1;
}

/* Past a string, whose text is added. */
static int take_string(Cursor *c)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (!TAKES(c, "\""))
        return 0;
    while (c->at < c->end) {
        uint8_t byte = *c->at;
        if (byte == '"') {
            c->at++;
            return 1;
        }
        if (byte == '\\') {
            if (c->end - c->at < 2)
                return 0;
            byte = c->at[1];
            c->at += 2;
            if (byte == 'u') {
                if (!take_escaped(c))
                    return 0;
                continue;
            }
            const char *found = byte ? strchr(escapes, byte) : NULL;
            if (found == NULL)
                return 0;
            *c->text++ = (uint8_t)meant[found - escapes];
        } else if (byte >= 0x80) {
            if (!take_wide(c))
                return 0;
        } else if (byte < 0x20) {
            return 0;
        } else {
            *c->text++ = byte;
            c->at++;
        }
    }
    return 0;
}

/* Past a string without escapes; where it stands. */
static int plain_string(Cursor *c, const uint8_t **start, size_t *size)
{
    if (!TAKES(c, "\""))
        return 0;
    *start = c->at;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at == '\\' || *c->at < 0x20 || *c->at >= 0x80)
            return 0;
        c->at++;
    }
    *size = (size_t)(c->at - *start);
    return TAKES(c, "\"");
}

/* ---- values that do not matter ---- */

static int skip_number(Cursor *c)
{
    const uint8_t *start;
    TAKES(c, "-");
    start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    if (c->at == start || (*start == '0' && c->at - start > 1))
        return 0;
    if (TAKES(c, ".")) {
        start = c->at;
        while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
            c->at++;
        if (c->at == start)
            return 0;
    }
    return c->at < c->end && *c->at != 'e' && *c->at != 'E';
}

static int skip_value(Cursor *c, int depth)
{
    if (depth > DEEPEST || c->at >= c->end)
        return 0;
    if (*c->at == '"') {
        uint8_t *kept = c->text; /* Decoded, and not kept. */
        int taken = take_string(c);
        c->text = kept;
        return taken;
    }
    if (*c->at == '{' || *c->at == '[') {
        uint8_t closing = *c->at == '{' ? '}' : ']';
        c->at++;
        if (takes_mark(c, closing))
            return 1;
        do {
            const uint8_t *key;
            size_t size;
            skip_blanks(c);
            if (closing == '}' && (!plain_string(c, &key, &size) || !takes_mark(c, ':')))
                return 0;
            if (!skip_value(c, depth + 1))
                return 0;
        } while (takes_mark(c, ','));
        skip_blanks(c);
        if (c->at >= c->end || *c->at != closing)
            return 0;
        c->at++;
        return 1;
    }
    return TAKES(c, "null") || TAKES(c, "true") || TAKES(c, "false") || skip_number(c);
}

/* ---- objects, a member at a time ---- */

typedef struct {
    enum dialect dialect;
    enum kind kind;
    int typed;        /* whether it said what it is */
    int parts;        /* texts in it */
    long long number; /* its place in the stream, where the dialect counts */
    unsigned seen;    /* members that may come once */
} Event;

typedef int (*Member)(Cursor *c, Event *event, const uint8_t *key, size_t size);

#define IS(literal) (size == sizeof(literal) - 1 && memcmp(key, literal, sizeof(literal) - 1) == 0)

static int once(Event *event, unsigned member)
{
    int first = !(event->seen & 1u << member);
    event->seen |= 1u << member;
    return first;
}

static int read_object(Cursor *c, Event *event, Member member)
{
    const uint8_t *key;
    size_t size;
    if (!TAKES(c, "{"))
        return 0;
    if (takes_mark(c, '}'))
        return 1;
    do {
        skip_blanks(c);
        if (!plain_string(c, &key, &size) || !takes_mark(c, ':') || !member(c, event, key, size))
            return 0;
    } while (takes_mark(c, ','));
    skip_blanks(c);
    return TAKES(c, "}");
}

/* A text of this kind, or null. */
static int read_text(Cursor *c, Event *event, unsigned member, enum kind kind)
{
    uint8_t *before = c->text;
    if (!once(event, member))
        return 0;
    if (TAKES(c, "null"))
        return 1;
    if (!take_string(c))
        return 0;
    /* Which of two texts counts is for Python to say; one that is empty may still stand before the other. */
    if (event->dialect == MESSAGES ? event->parts++ : c->text > before && event->parts++)
        return 0;
    if (event->dialect == MESSAGES || c->text > before)
        event->kind = kind;
    return 1;
}

static int chat_delta(Cursor *c, Event *event, const uint8_t *key, size_t size)
{
    if (IS("content"))
        return read_text(c, event, 0, SAID);
    if (IS("reasoning_content"))
        return read_text(c, event, 1, THOUGHT);
    if (IS("reasoning"))
        return read_text(c, event, 2, THOUGHT);
    if (IS("tool_calls") || IS("function_call"))
        return TAKES(c, "null");
    if (IS("annotations")) /* Who cites has searched, which Python notes. */
        return TAKES(c, "null") || (takes_mark(c, '[') && takes_mark(c, ']'));
    return skip_value(c, 0);
}

static int chat_choice(Cursor *c, Event *event, const uint8_t *key, size_t size)
{
    if (IS("index"))
        return once(event, 3) && TAKES(c, "0") && c->at < c->end && (*c->at == ',' || *c->at == '}' || *c->at == ' ');
    if (IS("finish_reason") || IS("error") || IS("usage"))
        return TAKES(c, "null");
    if (IS("delta"))
        return once(event, 4) && read_object(c, event, chat_delta);
    if (IS("text"))
        return once(event, 4) && read_text(c, event, 5, SAID); /* of a completion, which has no delta */
    return skip_value(c, 0);
}

static int chat_member(Cursor *c, Event *event, const uint8_t *key, size_t size)
{
    if (IS("choices")) {
        event->typed = 1;
        if (!once(event, 6) || !takes_mark(c, '[') || !read_object(c, event, chat_choice) || !(event->seen & 1u << 4))
            return 0;
        skip_blanks(c);
        return TAKES(c, "]");
    }
    if (IS("usage") || IS("error") || IS("x_groq") || IS("base_resp"))
        return TAKES(c, "null");
    return skip_value(c, 0);
}

static int messages_delta(Cursor *c, Event *event, const uint8_t *key, size_t size)
{
    if (IS("type")) {
        const uint8_t *name;
        return once(event, 0) && plain_string(c, &name, &size);
    }
    if (IS("text"))
        return read_text(c, event, 1, SAID);
    if (IS("thinking"))
        return read_text(c, event, 2, THOUGHT);
    if (IS("partial_json"))
        return read_text(c, event, 3, ARGUED);
    return skip_value(c, 0);
}

static int messages_member(Cursor *c, Event *event, const uint8_t *key, size_t size)
{
    if (IS("type")) {
        event->typed = 1;
        return once(event, 4) && TAKES(c, "\"content_block_delta\"");
    }
    if (IS("delta"))
        return once(event, 5) && read_object(c, event, messages_delta) && event->seen & 1u;
    return skip_value(c, 0);
}

static int ends_with(const uint8_t *name, size_t size, const char *ending)
{
    size_t length = strlen(ending);
    return size >= length && memcmp(name + size - length, ending, length) == 0;
}

static int responses_member(Cursor *c, Event *event, const uint8_t *key, size_t size)
{
    static const char reasoning[] = "response.reasoning";
    if (IS("type")) {
        if (!once(event, 0) || !plain_string(c, &key, &size))
            return 0;
        event->typed = 1;
        if (IS("response.output_text.delta"))
            event->kind = SAID;
        else if (size >= sizeof reasoning - 1 && memcmp(key, reasoning, sizeof reasoning - 1) == 0)
            event->kind = THOUGHT;
        else if (ends_with(key, size, "arguments.delta") || ends_with(key, size, "input.delta") ||
                 ends_with(key, size, "refusal.delta") || ends_with(key, size, "code.delta"))
            event->kind = ARGUED;
        else
            return 0;
        return 1;
    }
    if (IS("delta"))
        return once(event, 1) && take_string(c);
    if (IS("sequence_number")) {
        const uint8_t *start = c->at;
        if (!once(event, 2) || !skip_number(c) || c->at - start > 15)
            return 0;
        for (event->number = 0; start < c->at; start++) {
            if (*start < '0' || *start > '9')
                return 0;
            event->number = event->number * 10 + (*start - '0');
        }
        return 1;
    }
    return skip_value(c, 0);
}

/* ---- events and chunks ---- */

static const struct {
    Member member;
    unsigned needed; /* members without which it is no such event */
} dialects[] = {{chat_member, 1u << 6}, {messages_member, 1u << 5}, {responses_member, 1u << 1}};

static int read_event(Cursor *c, Event *event)
{
    if (TAKES(c, "event: ")) {
        while (c->at < c->end && *c->at != '\n')
            if (*c->at++ == '\r')
                return 0;
        if (!TAKES(c, "\n"))
            return 0;
    }
    if (!TAKES(c, "data: "))
        return 0;
    skip_blanks(c);
    if (!read_object(c, event, dialects[event->dialect].member) || !event->typed ||
        (event->seen & dialects[event->dialect].needed) == 0)
        return 0;
    skip_blanks(c);
    return TAKES(c, "\n\n");
}

/* Past the line that tells a chunk's size, as a server writes it; 0: not such a line. */
static size_t chunk_size(Cursor *c)
{
    size_t size = 0;
    const uint8_t *start = c->at;
    for (; c->at < c->end && c->at - start < LONGEST_SIZE; c->at++) {
        uint8_t byte = *c->at;
        if (byte >= '0' && byte <= '9')
            size = size << 4 | (size_t)(byte - '0');
        else if (byte >= 'a' && byte <= 'f')
            size = size << 4 | (size_t)(byte - 'a' + 10);
        else
            break;
    }
    return *start != '0' && TAKES(c, "\r\n") ? size : 0;
}

/* ---- what Python sees ---- */

typedef struct {
    PyObject_HEAD
    enum dialect dialect;
    char open;
    Py_ssize_t limit;
    Py_ssize_t events; /* since Python was last told */
    enum kind kind;
    long long number;
    uint8_t *text;
    size_t size, room;
} Lane;

#define KEPT_ROOM (64u << 10)

/* The bytes of body in `size` bytes of whole chunks, read on from `pending`; 0 where they are not ordinary. */
static size_t read_chunks(Cursor *c, Lane *pending)
{
    const uint8_t *end = c->end;
    size_t bodies = 0;
    while (c->at < end) {
        size_t size = chunk_size(c);
        if (size == 0 || (size_t)(end - c->at) < size + 2 || memcmp(c->at + size, "\r\n", 2) != 0)
            return 0;
        bodies += size;
        c->end = c->at + size;
        while (c->at < c->end) {
            Event event = {.dialect = pending->dialect, .kind = NOTHING};
            const uint8_t *before = c->text;
            if (!read_event(c, &event))
                return 0;
            pending->events++;
            pending->number = event.number;
            if (c->text == before)
                continue;
            if (pending->kind != NOTHING && pending->kind != event.kind)
                return 0;
            pending->kind = event.kind;
        }
        c->end = end;
        c->at += 2;
    }
    return bodies;
}

int lane_read(PyObject *lane, PyObject *data, Py_ssize_t *taken)
{
    Lane *self = (Lane *)lane;
    *taken = 0;
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "take(data: bytes)");
        return -1;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(data);
    if (!self->open || size == 0)
        return 0;
    if (self->room - self->size < size) {
        size_t room = self->size + size < 2048 ? 2048 : (self->size + size) * 2;
        uint8_t *text = PyMem_Realloc(self->text, room);
        if (text == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->text = text;
        self->room = room;
    }
    Lane after = *self;
    Cursor c = {.at = (const uint8_t *)PyBytes_AS_STRING(data), .text = self->text + self->size};
    c.end = c.at + size;
    size_t bodies = read_chunks(&c, &after);
    if (bodies == 0)
        return 0;
    self->events = after.events;
    self->kind = after.kind;
    self->number = after.number;
    self->size = (size_t)(c.text - self->text);
    *taken = (Py_ssize_t)self->size < self->limit ? (Py_ssize_t)bodies : -(Py_ssize_t)bodies;
    return 0;
}

static PyObject *lane_take(Lane *self, PyObject *data)
{
    Py_ssize_t taken;
    return lane_read((PyObject *)self, data, &taken) < 0 ? NULL : PyLong_FromSsize_t(taken);
}

static PyObject *lane_drain(Lane *self, PyObject *Py_UNUSED(none))
{
    if (self->events == 0)
        Py_RETURN_NONE;
    PyObject *told = Py_BuildValue("(niy#L)", self->events, (int)self->kind, self->text, (Py_ssize_t)self->size,
                                   self->number);
    if (told == NULL)
        return NULL;
    self->events = 0;
    self->kind = NOTHING;
    self->size = 0;
    if (self->room > KEPT_ROOM) {
        PyMem_Free(self->text);
        self->text = NULL;
        self->room = 0;
    }
    return told;
}

static PyObject *lane_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    int dialect;
    if (!PyArg_ParseTuple(args, "i", &dialect))
        return NULL;
    if (dialect < CHAT || dialect > RESPONSES) {
        PyErr_SetString(PyExc_ValueError, "no such dialect");
        return NULL;
    }
    Lane *self = (Lane *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->dialect = (enum dialect)dialect;
        self->kind = NOTHING;
    }
    return (PyObject *)self;
}

static void lane_free(Lane *self)
{
    PyMem_Free(self->text);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef lane_methods[] = {
    {"take", (PyCFunction)lane_take, METH_O,
     "take(data: bytes) -> int\n\nRead whole chunks that hold only whole events that add text of one kind.\n\n"
     "Gives the bytes of body in them, less than 0 once `limit` bytes of text are kept; 0: nothing was read."},
    {"drain", (PyCFunction)lane_drain, METH_NOARGS,
     "drain() -> tuple[int, int, bytes, int] | None\n\nEvents, kind and text since the last time, and the number\n"
     "of the last; None when there were none."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef lane_members[] = {
    {"open", T_BOOL, offsetof(Lane, open), 0, "Whether the next byte begins an event."},
    {"limit", T_PYSSIZET, offsetof(Lane, limit), 0, "Bytes of text that are kept before Python is to be told."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject lane_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sidecar.native.Lane",
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Lane(dialect: int)\n\nReads one stream as its chunks come: 0 chat, 1 messages, 2 responses.",
    .tp_new = lane_new,
    .tp_dealloc = (destructor)lane_free,
    .tp_methods = lane_methods,
    .tp_members = lane_members,
};
