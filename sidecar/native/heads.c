/* Fields of HTTP heads (RFC 9110, 9112): twins of sidecar/http/fields.py and of read_response_head. */
#include "native.h"
#include <string.h>

#define LONGEST_NAME 64
#define MOST_DIGITS 18

/* Which bytes may stand in a name, and which in a value. */
static uint8_t in_name[256], in_value[256];

void heads_init(void)
{
    for (const char *at = "!#$%&'*+-.^_`|~0123456789"; *at; at++)
        in_name[(uint8_t)*at] = 1;
    for (int byte = 'a'; byte <= 'z'; byte++)
        in_name[byte] = in_name[byte - 'a' + 'A'] = 1;
    for (int byte = 0; byte < 256; byte++)
        in_value[byte] = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

static int is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static int is(const char *name, Py_ssize_t size, const char *word)
{
    return (size_t)size == strlen(word) && memcmp(name, word, (size_t)size) == 0;
}

static int all_in(const uint8_t *allowed, const uint8_t *at, Py_ssize_t size)
{
    for (Py_ssize_t place = 0; place < size; place++)
        if (!allowed[at[place]])
            return 0;
    return 1;
}

/* A name in lower case; -1 where it is none, or longer than names are. */
static int lower_name(const uint8_t *at, Py_ssize_t size, char *out)
{
    if (size < 1 || size > LONGEST_NAME || !all_in(in_name, at, size))
        return -1;
    for (Py_ssize_t place = 0; place < size; place++)
        out[place] = (char)(at[place] >= 'A' && at[place] <= 'Z' ? at[place] + 32 : at[place]);
    return 0;
}

static int frames(const char *name, Py_ssize_t size)
{
    return is(name, size, "connection") || is(name, size, "content-length") || is(name, size, "host") ||
           is(name, size, "transfer-encoding");
}

static Py_ssize_t line_size(PyObject *field)
{
    char name[LONGEST_NAME];
    if (!PyTuple_CheckExact(field) || PyTuple_GET_SIZE(field) != 2 ||
        !PyBytes_CheckExact(PyTuple_GET_ITEM(field, 0)) || !PyBytes_CheckExact(PyTuple_GET_ITEM(field, 1)))
        return -1;
    PyObject *given = PyTuple_GET_ITEM(field, 0), *value = PyTuple_GET_ITEM(field, 1);
    Py_ssize_t size = PyBytes_GET_SIZE(given), room = PyBytes_GET_SIZE(value);
    if (lower_name((const uint8_t *)PyBytes_AS_STRING(given), size, name) < 0 || frames(name, size) ||
        !all_in(in_value, (const uint8_t *)PyBytes_AS_STRING(value), room))
        return -1;
    return size + room + 4;
}

/* field_lines(fields: list) -> bytes | None: as they stand on the wire, each line with its end */
PyObject *field_lines(PyObject *Py_UNUSED(module), PyObject *fields)
{
    Py_ssize_t whole = 0;
    if (!PyList_CheckExact(fields))
        Py_RETURN_NONE;
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(fields); place++) {
        Py_ssize_t size = line_size(PyList_GET_ITEM(fields, place));
        if (size < 0)
            Py_RETURN_NONE;
        whole += size;
    }
    PyObject *lines = PyBytes_FromStringAndSize(NULL, whole);
    if (lines == NULL)
        return NULL;
    char *out = PyBytes_AS_STRING(lines);
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(fields); place++) {
        PyObject *field = PyList_GET_ITEM(fields, place);
        PyObject *name = PyTuple_GET_ITEM(field, 0), *value = PyTuple_GET_ITEM(field, 1);
        memcpy(out, PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name));
        out += PyBytes_GET_SIZE(name);
        *out++ = ':';
        *out++ = ' ';
        memcpy(out, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
        out += PyBytes_GET_SIZE(value);
        *out++ = '\r';
        *out++ = '\n';
    }
    return lines;
}

struct head {
    int status, http_11, chunked, closes;
    long long length; /* -1: not said */
    PyObject *fields;
};

static int read_status_line(const uint8_t *at, Py_ssize_t size, struct head *head)
{
    if (size < 12 || memcmp(at, "HTTP/1.", 7) != 0 || (at[7] != '0' && at[7] != '1') || at[8] != ' ' ||
        at[9] < '1' || at[9] > '9' || at[10] < '0' || at[10] > '9' || at[11] < '0' || at[11] > '9' ||
        (size > 12 && (at[12] != ' ' || !all_in(in_value, at + 13, size - 13))))
        return -1;
    head->http_11 = at[7] == '1';
    head->status = (at[9] - '0') * 100 + (at[10] - '0') * 10 + (at[11] - '0');
    return 0;
}

static int read_length(const uint8_t *at, Py_ssize_t size, struct head *head)
{
    if (head->length >= 0 || size < 1 || size > MOST_DIGITS)
        return -1;
    head->length = 0;
    for (Py_ssize_t place = 0; place < size; place++) {
        if (at[place] < '0' || at[place] > '9')
            return -1;
        head->length = head->length * 10 + (at[place] - '0');
    }
    return 0;
}

/* A field between two neighbours only: 0 where it is understood, 1 where it is none, -1. */
static int heed(const char *name, Py_ssize_t size, const uint8_t *value, Py_ssize_t room, struct head *head)
{
    if (is(name, size, "content-length"))
        return read_length(value, room, head);
    if (is(name, size, "transfer-encoding")) {
        if (head->chunked || !is((const char *)value, room, "chunked"))
            return -1;
        head->chunked = 1;
        return 0;
    }
    if (is(name, size, "connection")) {
        if (is((const char *)value, room, "keep-alive"))
            return 0;
        head->closes = is((const char *)value, room, "close");
        return head->closes ? 0 : -1;
    }
    if (is(name, size, "keep-alive") || is(name, size, "te") || is(name, size, "trailer") ||
        is(name, size, "upgrade") || is(name, size, "host") || (size > 6 && memcmp(name, "proxy-", 6) == 0))
        return -1;
    return 1;
}

static int read_field(const uint8_t *at, Py_ssize_t size, struct head *head)
{
    char name[LONGEST_NAME];
    const uint8_t *colon = memchr(at, ':', (size_t)size), *value, *end = at + size;
    if (colon == NULL || lower_name(at, colon - at, name) < 0)
        return -1;
    for (value = colon + 1; value < end && is_space(*value); value++)
        ;
    if (!all_in(in_value, value, end - value))
        return -1;
    int other = heed(name, colon - at, value, end - value, head);
    if (other <= 0)
        return other;
    while (end > value && is_space(end[-1]))
        end--;
    PyObject *field = Py_BuildValue("(y#y#)", name, colon - at, (const char *)value, end - value);
    int failed = field == NULL ? -1 : PyList_Append(head->fields, field);
    Py_XDECREF(field);
    return failed;
}

static int read_head(const uint8_t *at, const uint8_t *end, Py_ssize_t most, struct head *head)
{
    for (Py_ssize_t number = 0;; number++) {
        const uint8_t *line = memchr(at, '\r', (size_t)(end - at));
        Py_ssize_t size = (line == NULL ? end : line) - at;
        if (line != NULL && (end - line < 2 || line[1] != '\n'))
            return -1;
        if (number > most || (number == 0 ? read_status_line(at, size, head) : read_field(at, size, head)) < 0)
            return -1;
        if (line == NULL)
            return head->chunked && (head->length >= 0 || !head->http_11) ? -1 : 0;
        at = line + 2;
    }
}

/* read_response_head(head: bytes, max_fields: int) -> (status, fields, length, chunked, keep_alive) | None */
PyObject *read_response_head(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyBytes_Check(given[0]) || !PyLong_Check(given[1])) {
        PyErr_SetString(PyExc_TypeError, "read_response_head(head: bytes, max_fields: int)");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(given[1]);
    if (most == -1 && PyErr_Occurred())
        return NULL;
    const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(given[0]);
    struct head head = {0, 0, 0, 0, -1, PyList_New(0)};
    if (head.fields == NULL)
        return NULL;
    if (read_head(at, at + PyBytes_GET_SIZE(given[0]), most, &head) < 0) {
        Py_DECREF(head.fields);
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    PyObject *length = head.length < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(head.length);
    return Py_BuildValue("(iNNNN)", head.status, head.fields, length, PyBool_FromLong(head.chunked),
                         PyBool_FromLong(head.http_11 && !head.closes));
}
