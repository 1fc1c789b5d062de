/* One column on its way from packed records to Arrow's buffers. Its kind is a letter:

       t  text            i  whole number     I  the same, or nil      s, S  that of 32 bits
       f  flag            p  pico-USD         P  the same, or nil      h     whole numbers
       w  texts           g  text by text     j  attributes, as they are packed
       x  nil             a  attempts, each an array of the fields of their own plan */
#ifndef BURSAR_COLLECTOR_FIELDS_H
#define BURSAR_COLLECTOR_FIELDS_H

#include "native.h"
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t size, room;
} Buffer;

typedef struct {
    char kind;
    uint32_t rows, nulls;
    Buffer valid, values, texts, items, item_texts; /* `values` are numbers, flags or offsets */
    PyObject *packed;                               /* attributes: a list of bytes */
    PyObject *last;                                 /* what it said last, as an object, and as it was packed */
    const uint8_t *last_text;
    uint32_t last_size;
} Column;

/* Each returns 1 when all is well, 0 when Python has to look, -1 with an exception. */
int begin(Column *column, char kind);
int add_field(Column *to, Reader *from);
int room_for(Buffer *in, size_t more);

static inline int add(Buffer *to, const void *data, size_t size)
{
    if (size == 0)
        return 1;
    if (to->size + size > to->room && room_for(to, size) < 0)
        return -1;
    memcpy(to->data + to->size, data, size);
    to->size += size;
    return 1;
}

PyObject *as_object(Column *column, const uint8_t *start, const uint8_t *end);
PyObject *finished(Column *column);
void end(Column *column);

#endif
