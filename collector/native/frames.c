/* Frames of the journal: found and checked where they stand, and intents paired with records.

   collector/journal.py says what a frame is and has the twin of `places`; that of `paired` is in
   collector/ingest/pairing.py. */
#include "fields.h"

#define HEAD 17
#define CHECKED_FROM 8 /* The check sum is of the sequence, the kind and the payload. */
#define MOST_BYTES (16u << 20)

enum { END, TORN, CORRUPT };

/* Eight bytes at a step: tables[k][b] is byte b moved on by k more bytes. */
static uint32_t tables[8][256];

void frames_init(void)
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

static uint32_t little_endian(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* CRC-32 as zlib has it. */
static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    uint32_t crc = ~0u;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = crc ^ little_endian(data), high = little_endian(data + 4);
        crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
              tables[4][low >> 24] ^ tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^
              tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
    }
    for (; size > 0; data++, size--)
        crc = (crc >> 8) ^ tables[0][(crc ^ *data) & 0xff];
    return ~crc;
}

/* places(data: bytes) -> (places of the whole frames, whether none lacks between them, bytes they take,
   why they end: 0 nothing follows, 1 a torn frame, 2 a damaged one) */
PyObject *places(PyObject *Py_UNUSED(module), PyObject *given)
{
    if (!PyBytes_Check(given) || PyBytes_GET_SIZE(given) > INT32_MAX) {
        PyErr_SetString(PyExc_TypeError, "places(data: bytes), of less than 2 GiB");
        return NULL;
    }
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(given);
    size_t size = (size_t)PyBytes_GET_SIZE(given), at = 0;
    Buffer found = {0};
    Place last = {0}, place = {0};
    int end = END, joined = 1;
    while (at < size) {
        end = TORN;
        if (size - at < HEAD)
            break;
        uint32_t length = little_endian(data + at), crc = little_endian(data + at + 4);
        end = CORRUPT;
        if (length > MOST_BYTES || (length == 0 && crc == 0))
            break;
        end = TORN;
        if (size - at - HEAD < length)
            break;
        end = CORRUPT;
        if (crc32_of(data + at + CHECKED_FROM, HEAD - CHECKED_FROM + length) != crc)
            break;
        place.sequence = little_endian(data + at + 8) | (uint64_t)little_endian(data + at + 12) << 32;
        if (place.sequence > INT64_MAX)
            break;
        end = END;
        place.kind = data[at + 16];
        place.start = (uint32_t)at + HEAD;
        place.size = length;
        joined = joined && (found.size == 0 || place.sequence == last.sequence + 1);
        last = place;
        if (add(&found, &place, sizeof place) < 0) {
            PyMem_Free(found.data);
            return NULL;
        }
        at += HEAD + length;
    }
    const char *said = found.data == NULL ? "" : (const char *)found.data;
    PyObject *told =
        Py_BuildValue("(y#Oni)", said, (Py_ssize_t)found.size, joined ? Py_True : Py_False, (Py_ssize_t)at, end);
    PyMem_Free(found.data);
    return told;
}

/* The id of the call that an intent opens, if it is one from end to end. */
static int read_intent(const uint8_t *data, const Place *place, const uint8_t **call_id, uint32_t *size)
{
    Reader from = {data + place->start, data + place->start + place->size};
    uint32_t width;
    int64_t started;
    if (!read_list(&from, &width) || width < 2 || !read_text(&from, call_id, size) || !read_integer(&from, &started))
        return 0;
    while (width-- > 2)
        if (!read_past(&from, 16))
            return 0;
    return from.at == from.end && is_utf8(*call_id, *size);
}

static int are_ordinary(const uint8_t *data, const Place *place, Py_ssize_t number, Py_ssize_t records)
{
    const uint8_t *call_id;
    uint32_t size;
    for (; number > 0; number--, place++) {
        if (place->kind == RECORD_KIND)
            records--;
        else if (place->kind != INTENT_KIND || !read_intent(data, place, &call_id, &size))
            return 0;
    }
    return records == 0;
}

typedef struct {
    PyObject *opened, *presumed, *fresh, *settled, *corrected, *added;
} Pairs;

static int has(PyObject *among, PyObject *call_id)
{
    return PyDict_Check(among) ? PyDict_Contains(among, call_id) : PySet_Contains(among, call_id);
}

/* 1 where it was there and is no more. */
static int taken_from(PyObject *among, PyObject *call_id)
{
    int there = PyDict_Contains(among, call_id);
    return there == 1 && PyDict_DelItem(among, call_id) < 0 ? -1 : there;
}

static int add_intent(Pairs *to, PyObject *call_id, Py_ssize_t number)
{
    int open = has(to->opened, call_id);
    /* A stream that holds more than it was opened with: the newer intent takes the place. */
    if (open < 0 || (open == 1 && PyList_Append(to->settled, call_id) < 0))
        return -1;
    PyObject *frame = PyLong_FromSsize_t(number);
    int done = frame == NULL ? -1 : PyDict_SetItem(to->added, call_id, frame);
    Py_XDECREF(frame);
    return done;
}

static int add_settled(Pairs *to, PyObject *call_id)
{
    int here = taken_from(to->added, call_id), before = here < 0 ? -1 : taken_from(to->fresh, call_id);
    if (before < 0)
        return -1;
    if (here || before)
        return 0;
    int known = has(to->opened, call_id);
    if (known != 0)
        return known < 0 ? -1 : PyList_Append(to->settled, call_id);
    known = has(to->presumed, call_id);
    return known <= 0 ? known : PyList_Append(to->corrected, call_id);
}

/* paired(data: bytes, places: bytes, facts: list[tuple], opened: dict, presumed: set, fresh: dict,
          settled: list, corrected: list) -> dict or None

   Does with records and intents what the twin does, but for the intents that stay open: their ids and the
   numbers of their frames are what it returns. None, and nothing done, where one of the frames is another. */
PyObject *paired(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 8 || !PyBytes_Check(given[0]) || !PyBytes_Check(given[1]) || !PyList_Check(given[2]) ||
        !PyDict_Check(given[3]) || !PyAnySet_Check(given[4]) || !PyDict_Check(given[5]) ||
        !PyList_Check(given[6]) || !PyList_Check(given[7])) {
        PyErr_SetString(PyExc_TypeError, "paired(bytes, bytes, list, dict, set, dict, list, list)");
        return NULL;
    }
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(given[0]), *text;
    const Place *place = (const Place *)PyBytes_AS_STRING(given[1]);
    Py_ssize_t frames = PyBytes_GET_SIZE(given[1]) / (Py_ssize_t)sizeof(Place), record = 0;
    uint32_t size;
    if (!lie_within(given[0], given[1])) {
        PyErr_SetString(PyExc_ValueError, "places beyond the data");
        return NULL;
    }
    if (!are_ordinary(data, place, frames, PyList_GET_SIZE(given[2])))
        Py_RETURN_NONE;
    Pairs to = {given[3], given[4], given[5], given[6], given[7], PyDict_New()};
    int done = to.added == NULL ? -1 : 0;
    for (Py_ssize_t frame = 0; done == 0 && frame < frames; frame++) {
        if (place[frame].kind == RECORD_KIND) {
            PyObject *facts = PyList_GET_ITEM(given[2], record++);
            if (PyTuple_Check(facts) && PyTuple_GET_SIZE(facts) > 0) {
                done = add_settled(&to, PyTuple_GET_ITEM(facts, 0));
            } else {
                PyErr_SetString(PyExc_TypeError, "facts are tuples");
                done = -1;
            }
        } else if (read_intent(data, &place[frame], &text, &size)) {
            PyObject *call_id = PyUnicode_DecodeUTF8((const char *)text, (Py_ssize_t)size, "strict");
            done = call_id == NULL ? -1 : add_intent(&to, call_id, frame);
            Py_XDECREF(call_id);
        }
    }
    if (done < 0)
        Py_CLEAR(to.added);
    return to.added;
}

int lie_within(PyObject *data, PyObject *places)
{
    const Place *place = (const Place *)PyBytes_AS_STRING(places);
    Py_ssize_t number = PyBytes_GET_SIZE(places) / (Py_ssize_t)sizeof(Place);
    uint64_t size = (uint64_t)PyBytes_GET_SIZE(data);
    for (; number > 0; number--, place++)
        if ((uint64_t)place->start + place->size > size)
            return 0;
    return 1;
}
