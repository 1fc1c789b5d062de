/* CRC-32 as zlib has it, and the digests of sidecar/wire/hashing.py made of it. */
#include "native.h"
#include <string.h>

#define SHAPE_BYTES 2048

/* Eight bytes at a step: tables[k][b] is byte b moved on by k more bytes. */
static uint32_t tables[8][256];

void digests_init(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ 0xedb88320u : crc >> 1;
        tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int step = 1; step < 8; step++)
            tables[step][byte] = (tables[step - 1][byte] >> 8) ^ tables[0][tables[step - 1][byte] & 0xff];
}

uint32_t crc32_of(const uint8_t *data, size_t size, uint32_t seed)
{
    uint32_t crc = ~seed;
    for (; size >= 8; data += 8, size -= 8) {
        /* Byte by byte, so that the order of bytes in this machine does not matter. */
        uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                              (uint32_t)data[3] << 24);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][data[4]] ^ tables[2][data[5]] ^ tables[1][data[6]] ^
              tables[0][data[7]];
    }
    for (; size > 0; data++, size--)
        crc = (crc >> 8) ^ tables[0][(crc ^ *data) & 0xff];
    return ~crc;
}

uint32_t crc32_shape(const uint8_t *text, size_t size, uint32_t seed)
{
    uint8_t kept[256];
    size_t number = 0;
    for (size_t place = 0; place < size; place++) {
        kept[number] = text[place];
        number += text[place] < '0' || text[place] > '9';
        if (number == sizeof kept) {
            seed = crc32_of(kept, number, seed);
            number = 0;
        }
    }
    return crc32_of(kept, number, seed);
}

uint64_t two_ways(const uint8_t *text, size_t size)
{
    size_t end = size <= SHAPE_BYTES ? size : SHAPE_BYTES / 2;
    uint32_t shape = crc32_shape(text, end, 0);
    if (end < size)
        shape = crc32_shape(text + size - end, end, shape);
    uint64_t digest = (uint64_t)(shape & SHAPE_BITS) << 32 | crc32_of(text, size, 0);
    return digest ? digest : 1;
}

/* told_two_ways(text: bytes) -> int */
PyObject *told_two_ways(PyObject *Py_UNUSED(module), PyObject *text)
{
    if (!PyBytes_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "a text in bytes is wanted");
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(
        two_ways((const uint8_t *)PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text)));
}

#define CHAIN 2654435761u
#define WORD 2246822519u
#define BITS 0x7fffffffffffffffu

static int is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

uint64_t folded(uint64_t previous, uint32_t seed, const uint8_t *text, size_t size)
{
    while (size > 0 && is_space(text[size - 1]))
        size--;
    while (size > 0 && is_space(*text))
        text++, size--;
    uint64_t rolling = (previous * CHAIN + (uint64_t)crc32_of(text, size, seed) * WORD + size) & BITS;
    return rolling ? rolling : 1;
}

int seeded(PyObject *text, uint32_t *seed)
{
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    if (utf8 != NULL) {
        *seed = crc32_of((const uint8_t *)utf8, (size_t)size, *seed);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return -1;
    PyErr_Clear();
    PyObject *replaced = PyUnicode_AsEncodedString(text, "utf-8", "replace");
    if (replaced == NULL)
        return -1;
    *seed = crc32_of((const uint8_t *)PyBytes_AS_STRING(replaced), (size_t)PyBytes_GET_SIZE(replaced), *seed);
    Py_DECREF(replaced);
    return 0;
}

/* fold(previous: int, role: str, text: bytes, marks: str = "") -> int */
PyObject *fold(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number < 3 || number > 4 || !PyLong_Check(given[0]) || !PyUnicode_Check(given[1]) ||
        !PyBytes_Check(given[2]) || (number == 4 && !PyUnicode_Check(given[3]))) {
        PyErr_SetString(PyExc_TypeError, "fold(previous: int, role: str, text: bytes, marks: str)");
        return NULL;
    }
    uint64_t previous = PyLong_AsUnsignedLongLongMask(given[0]);
    uint32_t seed = 0;
    if (seeded(given[1], &seed) < 0 || (number == 4 && seeded(given[3], &seed) < 0))
        return NULL;
    return PyLong_FromUnsignedLongLong(folded(
        previous, seed, (const uint8_t *)PyBytes_AS_STRING(given[2]), (size_t)PyBytes_GET_SIZE(given[2])));
}
