/* MessagePack as the journal has it: https://github.com/msgpack/msgpack/blob/master/spec.md */
#include "native.h"
#include <string.h>

static uint64_t big_endian(const uint8_t *at, int bytes)
{
    uint64_t number = 0;
    for (int place = 0; place < bytes; place++)
        number = number << 8 | at[place];
    return number;
}

/* Here and below, a reader stays where it is when what it stands before is something else. */

/* The number in the `bytes` after the first one; moves past both. */
static int sized(Reader *from, int bytes, uint64_t *number)
{
    if (from->end - from->at < 1 + bytes)
        return 0;
    *number = big_endian(from->at + 1, bytes);
    from->at += 1 + bytes;
    return 1;
}

int read_nil(Reader *from)
{
    if (from->at >= from->end || *from->at != 0xc0)
        return 0;
    from->at++;
    return 1;
}

int read_flag(Reader *from, int *flag)
{
    if (from->at >= from->end || (*from->at & 0xfe) != 0xc2)
        return 0;
    *flag = *from->at++ & 1;
    return 1;
}

int read_integer(Reader *from, int64_t *number)
{
    if (from->at >= from->end)
        return 0;
    const uint8_t *start = from->at, first = *start;
    uint64_t bits;
    if (first < 0x80 || first >= 0xe0) {
        *number = (int8_t)first;
        from->at++;
        return 1;
    }
    if (first < 0xcc || first > 0xd3 || !sized(from, 1 << (first & 3), &bits))
        return 0;
    switch (first) {
    case 0xd0:
        *number = (int8_t)bits;
        return 1;
    case 0xd1:
        *number = (int16_t)bits;
        return 1;
    case 0xd2:
        *number = (int32_t)bits;
        return 1;
    case 0xcf:
        if (bits > INT64_MAX) {
            from->at = start;
            return 0;
        }
    }
    *number = (int64_t)bits;
    return 1;
}

int read_text(Reader *from, const uint8_t **text, uint32_t *size)
{
    if (from->at >= from->end)
        return 0;
    const uint8_t *start = from->at, first = *start;
    uint64_t length;
    if (first >= 0xa0 && first < 0xc0) {
        length = first & 0x1f;
        from->at++;
    } else if (first < 0xd9 || first > 0xdb || !sized(from, 1 << (first - 0xd9), &length)) {
        return 0;
    }
    if ((uint64_t)(from->end - from->at) < length) {
        from->at = start;
        return 0;
    }
    *text = from->at;
    *size = (uint32_t)length;
    from->at += length;
    return 1;
}

/* A list or a map: `few` is the first byte of those with up to 15 items, `many` of those with two more bytes. */
static int counted(Reader *from, uint8_t few, uint8_t many, uint32_t *length)
{
    if (from->at >= from->end)
        return 0;
    uint8_t first = *from->at;
    uint64_t items;
    if ((first & 0xf0) == few) {
        *length = first & 0x0f;
        from->at++;
        return 1;
    }
    if ((first != many && first != many + 1) || !sized(from, first == many ? 2 : 4, &items))
        return 0;
    *length = (uint32_t)items;
    return 1;
}

int read_list(Reader *from, uint32_t *length)
{
    return counted(from, 0x90, 0xdc, length);
}

int read_pairs(Reader *from, uint32_t *length)
{
    return counted(from, 0x80, 0xde, length);
}

static int past_all(Reader *from, uint64_t items, int depth)
{
    while (items-- > 0)
        if (!read_past(from, depth))
            return 0;
    return 1;
}

/* One value of whatever kind that a record's attributes have, at most `depth` lists and maps deep. */
int read_past(Reader *from, int depth)
{
    int64_t number;
    int flag;
    const uint8_t *text;
    uint32_t size;
    uint64_t bits;
    if (depth < 0 || from->at >= from->end)
        return 0;
    switch (*from->at) {
    case 0xca:
        return sized(from, 4, &bits);
    case 0xcb:
        return sized(from, 8, &bits);
    }
    if (read_integer(from, &number) || read_text(from, &text, &size) || read_nil(from) || read_flag(from, &flag))
        return 1;
    if (read_list(from, &size))
        return past_all(from, size, depth - 1);
    return read_pairs(from, &size) && past_all(from, 2 * (uint64_t)size, depth - 1);
}

int is_utf8(const uint8_t *text, size_t size)
{
    uint64_t seen = 0, eight;
    size_t place = 0;
    for (; place + 8 <= size; place += 8) {
        memcpy(&eight, text + place, 8);
        seen |= eight;
    }
    for (; place < size; place++)
        seen |= text[place];
    if ((seen & 0x8080808080808080u) == 0)
        return 1;
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)text, (Py_ssize_t)size, "strict");
    if (decoded == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(decoded);
    return 1;
}
