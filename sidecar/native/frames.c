/* Frames of the journal and ids of calls: twins of frame_bytes in collector/journal.py and of drawn_ids. */
#include "native.h"
#include <string.h>

#define HEAD 17   /* length, CRC, sequence, kind */
#define SUMMED 8  /* where what the CRC is of begins */
#define DRAWN 48

static void put_number(uint8_t *out, uint64_t number, int size)
{
    for (int place = 0; place < size; place++)
        out[place] = (uint8_t)(number >> 8 * place);
}

/* frame_bytes(sequence: int, kind: int, payload: bytes) -> bytes */
PyObject *frame_bytes(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 3 || !PyLong_Check(given[0]) || !PyLong_Check(given[1]) || !PyBytes_Check(given[2])) {
        PyErr_SetString(PyExc_TypeError, "frame_bytes(sequence: int, kind: int, payload: bytes)");
        return NULL;
    }
    unsigned long long sequence = PyLong_AsUnsignedLongLong(given[0]);
    unsigned long kind = PyLong_AsUnsignedLong(given[1]);
    Py_ssize_t size = PyBytes_GET_SIZE(given[2]);
    if (PyErr_Occurred())
        return NULL;
    if (kind > 0xff || (unsigned long long)size > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "a kind of one byte and a payload below 4 GiB are wanted");
        return NULL;
    }
    PyObject *frame = PyBytes_FromStringAndSize(NULL, HEAD + size);
    if (frame == NULL)
        return NULL;
    uint8_t *out = (uint8_t *)PyBytes_AS_STRING(frame);
    put_number(out, (uint64_t)size, 4);
    put_number(out + SUMMED, sequence, 8);
    out[HEAD - 1] = (uint8_t)kind;
    memcpy(out + HEAD, PyBytes_AS_STRING(given[2]), (size_t)size);
    put_number(out + 4, crc32_of(out + SUMMED, (size_t)(HEAD - SUMMED + size), 0), 4);
    return frame;
}

static PyObject *hex_text(const uint8_t *bytes, int size)
{
    PyObject *text = PyUnicode_New(2 * size, 127);
    if (text == NULL)
        return NULL;
    Py_UCS1 *out = PyUnicode_1BYTE_DATA(text);
    for (int place = 0; place < size; place++) {
        *out++ = (Py_UCS1)"0123456789abcdef"[bytes[place] >> 4];
        *out++ = (Py_UCS1)"0123456789abcdef"[bytes[place] & 15];
    }
    return text;
}

static PyObject *uuid_text(const uint8_t *bytes)
{
    PyObject *text = PyUnicode_New(36, 127);
    if (text == NULL)
        return NULL;
    Py_UCS1 *out = PyUnicode_1BYTE_DATA(text);
    for (int place = 0; place < 16; place++) {
        if (place == 4 || place == 6 || place == 8 || place == 10)
            *out++ = '-';
        *out++ = (Py_UCS1)"0123456789abcdef"[bytes[place] >> 4];
        *out++ = (Py_UCS1)"0123456789abcdef"[bytes[place] & 15];
    }
    return text;
}

/* drawn_ids(unix_ms: int, drawn: bytes) -> (call id, span id, span id, trace id) */
PyObject *drawn_ids(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyLong_Check(given[0]) || !PyBytes_Check(given[1]) || PyBytes_GET_SIZE(given[1]) != DRAWN) {
        PyErr_SetString(PyExc_TypeError, "drawn_ids(unix_ms: int, drawn: 48 bytes)");
        return NULL;
    }
    uint64_t unix_ms = PyLong_AsUnsignedLongLongMask(given[0]);
    const uint8_t *drawn = (const uint8_t *)PyBytes_AS_STRING(given[1]);
    uint8_t call[16];
    memcpy(call, drawn, sizeof call);
    for (int place = 0; place < 6; place++)
        call[place] = (uint8_t)(unix_ms >> 8 * (5 - place));
    call[6] = (uint8_t)(0x70 | (call[6] & 0x0f)); /* version 7 */
    call[8] = (uint8_t)(0x80 | (call[8] & 0x3f)); /* the variant of RFC 9562 */
    return Py_BuildValue("(NNNN)", uuid_text(call), hex_text(drawn + 16, 8), hex_text(drawn + 24, 8),
                         hex_text(drawn + 32, 16));
}
