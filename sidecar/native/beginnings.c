/* Where a conversation that begins so belongs: the twin of sidecar/providers/rendered.py.

   Only bodies come here that were read before, as JSON: so the ends of values are looked for, and nothing is
   checked. Of anything else something is told all the same, or nothing. */
#include "native.h"
#include <string.h>

#define PARTS 6
#define MESSAGES 3

struct piece {
    const uint8_t *data;
    size_t size;
};

#define IS(piece, literal) \
    ((piece).size == sizeof(literal) - 1 && memcmp((piece).data, literal, sizeof(literal) - 1) == 0)

/* In the order that templates put them in; -1 for what no model reads first. */
static int part_of(struct piece name)
{
    return IS(name, "tools")          ? 0
           : IS(name, "system")       ? 1
           : IS(name, "instructions") ? 2
           : IS(name, "messages")     ? MESSAGES
           : IS(name, "input")        ? 4
           : IS(name, "prompt")       ? 5
                                      : -1;
}

static const uint8_t *past_space(const uint8_t *at, const uint8_t *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* Behind the text whose first quote is at `at`; NULL where it has no end. */
static const uint8_t *past_text(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *start = ++at;
    while ((at = memchr(at, '"', (size_t)(end - at))) != NULL) {
        const uint8_t *back = at;
        while (back > start && back[-1] == '\\')
            back--;
        at++;
        if ((at - back) % 2 == 1) /* An even number of backslashes: they stand for one another. */
            return at;
    }
    return NULL;
}

/* Behind the value at `at`; NULL where it has no end. */
static const uint8_t *past_value(const uint8_t *at, const uint8_t *end)
{
    size_t depth = 0;
    for (; at < end; at++)
        switch (*at) {
        case '"':
            at = past_text(at, end);
            if (at == NULL || depth == 0)
                return at;
            at--;
            break;
        case '{': case '[': depth++; break;
        case '}': case ']':
            if (depth <= 1)
                return depth == 1 ? at + 1 : at;
            depth--;
            break;
        case ',': case ' ': case '\n': case '\r': case '\t':
            if (depth == 0)
                return at;
            break;
        default: break;
        }
    return NULL;
}

/* The parts of a body as they are written; -1 where that is not plain.

   With `alone` it is the messages, and of these that many bytes at most: nothing behind is looked at. */
static int find_parts(const uint8_t *at, const uint8_t *end, size_t alone, struct piece *parts)
{
    at = past_space(at, end);
    if (at == end || *at++ != '{')
        return -1;
    at = past_space(at, end);
    if (at < end && *at == '}')
        return 0;
    for (;;) {
        if (at == end || *at != '"')
            return -1;
        struct piece name = {at + 1, 0};
        at = past_text(at, end);
        if (at == NULL)
            return -1;
        name.size = (size_t)(at - 1 - name.data);
        if (memchr(name.data, '\\', name.size) != NULL)
            return -1;
        at = past_space(at, end);
        if (at == end || *at++ != ':')
            return -1;
        const uint8_t *start = past_space(at, end);
        int part = part_of(name);
        if (alone > 0 && part == MESSAGES && (size_t)(end - start) > alone) {
            at = past_value(start, start + alone);
            parts[part] = (struct piece){start, at == NULL ? alone : (size_t)(at - start)};
            return 0;
        }
        at = past_value(start, end);
        if (at == NULL)
            return -1;
        if (alone > 0 ? part == MESSAGES : part >= 0) {
            if (parts[part].data != NULL)
                return -1;
            parts[part] = (struct piece){start, (size_t)(at - start)};
        }
        at = past_space(at, end);
        if (at == end)
            return -1;
        if (*at == '}')
            return 0;
        if (*at++ != ',')
            return -1;
        at = past_space(at, end);
    }
}

/* The last steps of SplitMix64. */
static uint64_t spread(uint64_t number)
{
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

/* prefix_key(body: bytes, tenant: str, model: str, blocks: int, block_bytes: int, alone: bool) -> int | None

   0 where the prompt has no whole block; `alone`: nothing but messages is in it. */
PyObject *prefix_key(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 6 || !PyBytes_Check(given[0]) || !PyUnicode_Check(given[1]) || !PyUnicode_Check(given[2]) ||
        !PyLong_Check(given[3]) || !PyLong_Check(given[4]) || !PyBool_Check(given[5])) {
        PyErr_SetString(PyExc_TypeError, "prefix_key(body: bytes, tenant: str, model: str, blocks: int, "
                                         "block_bytes: int, alone: bool)");
        return NULL;
    }
    Py_ssize_t blocks = PyLong_AsSsize_t(given[3]), block = PyLong_AsSsize_t(given[4]);
    if (PyErr_Occurred())
        return NULL;
    const uint8_t *body = (const uint8_t *)PyBytes_AS_STRING(given[0]);
    size_t most, whole = 0;
    struct piece parts[PARTS];
    memset(parts, 0, sizeof parts);
    if (blocks < 1 || block < 1 || __builtin_mul_overflow((size_t)blocks, (size_t)block, &most) ||
        find_parts(body, body + PyBytes_GET_SIZE(given[0]), given[5] == Py_True ? most : 0, parts) < 0)
        Py_RETURN_NONE;
    for (int part = 0; part < PARTS; part++)
        whole += parts[part].size;
    whole = whole < most ? whole - whole % (size_t)block : most;
    if (whole == 0)
        return PyLong_FromLong(0);
    uint32_t said = 0;
    if (seeded(given[1], &said) < 0)
        return NULL;
    said = crc32_of((const uint8_t *)"\x1f", 1, said);
    if (seeded(given[2], &said) < 0)
        return NULL;
    size_t left = whole;
    for (int part = 0; part < PARTS && left > 0; part++) {
        size_t of_it = parts[part].size < left ? parts[part].size : left;
        said = crc32_of(parts[part].data, of_it, said);
        left -= of_it;
    }
    uint64_t key = spread((uint64_t)whole << 32 | said);
    return PyLong_FromUnsignedLongLong(key == 0 ? 1 : key);
}
