/* How many members a JSON text has at least, told without reading it. */
#include "native.h"
#include <string.h>

static const uint64_t ONES = 0x0101010101010101u, TOPS = 0x8080808080808080u;

/* Behind the quotation mark that ends the string whose text begins at `at`; `end` where none does. */
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        /* The next few bytes one by one, for strings that are short or all escapes. */
        for (const uint8_t *near = end - at > 16 ? at + 16 : end; at < near; at++) {
            if (*at == '"')
                return at + 1;
            at += *at == '\\';
        }
        if (at >= end)
            break;
        const uint8_t *mark = memchr(at, '"', (size_t)(end - at)), *before = mark;
        if (mark == NULL)
            break;
        while (before > at && before[-1] == '\\')
            before--;
        if (((mark - before) & 1) == 0) /* Each two of these are an escape of their own. */
            return mark + 1;
        at = mark + 1;
    }
    return end;
}

/* Whether one of the eight bytes at `at` may begin a string or count. */
static int has_any(const uint8_t *at)
{
    uint64_t word, quote, comma, bracket;
    memcpy(&word, at, 8);
    quote = word ^ ONES * '"';
    comma = word ^ ONES * ',';
    bracket = (word | ONES * 0x20) ^ ONES * '{'; /* or '[' */
    return ((((quote - ONES) & ~quote) | ((comma - ONES) & ~comma) | ((bracket - ONES) & ~bracket)) & TOPS) != 0;
}

/* has_more_members(text: bytes, most: int) -> bool */
PyObject *has_more_members(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    Py_buffer text;
    if (number != 2 || !PyLong_Check(given[1])) {
        PyErr_SetString(PyExc_TypeError, "has_more_members(text: bytes, most: int)");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(given[1]), found = 0;
    if ((most == -1 && PyErr_Occurred()) || PyObject_GetBuffer(given[0], &text, PyBUF_SIMPLE) < 0)
        return NULL;
    const uint8_t *at = text.buf, *end = at + text.len;
    while (at < end && found <= most) {
        if (end - at >= 8 && !has_any(at)) { /* Long numbers, and space. */
            at += 8;
            continue;
        }
        uint8_t byte = *at++;
        if (byte == '"')
            at = string_end(at, end);
        else
            found += (byte == ',') | (byte == '[') | (byte == '{');
    }
    PyBuffer_Release(&text);
    return PyBool_FromLong(found > most);
}
