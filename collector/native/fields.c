/* The fields of records, one after the other, into their columns. */
#include "fields.h"
#include <string.h>

#define MOST_PICO 999999999999999999 /* as in collector/store/schema.py */
#define DEEPEST 16
#define FIRST_ROOM 12288 /* numbers of the records that are read at once */

int room_for(Buffer *in, size_t more)
{
    size_t room = 2 * in->room + more + FIRST_ROOM;
    uint8_t *data = PyMem_Realloc(in->data, room);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    in->data = data;
    in->room = room;
    return 1;
}

static int add_offset(Buffer *to, size_t offset)
{
    int32_t number = (int32_t)offset;
    return offset > INT32_MAX ? 0 : add(to, &number, sizeof number);
}

static int add_text(Buffer *offsets, Buffer *texts, const uint8_t *text, uint32_t size)
{
    if (!is_utf8(text, size))
        return 0;
    int done = add(texts, text, size);
    return done == 1 ? add_offset(offsets, texts->size) : done;
}

/* Row `row` of a column of bits; those of the rows before are there. */
static int add_bit(Buffer *to, uint32_t row, int bit)
{
    uint8_t none = 0;
    if (row / 8 >= to->size && add(to, &none, 1) < 0)
        return -1;
    to->data[row / 8] |= (uint8_t)(bit << row % 8);
    return 1;
}

static int add_number(Column *to, Reader *from)
{
    int64_t number = 0;
    int none = to->kind < 'a' && read_nil(from);
    if (!none && !read_integer(from, &number))
        return 0;
    int done = 1;
    if (to->kind < 'a')
        done = add_bit(&to->valid, to->rows, !none);
    to->nulls += (uint32_t)none;
    if (done != 1)
        return done;
    switch (to->kind | 0x20) {
    case 's':
        if (number != (int32_t)number)
            return 0;
        int32_t few = (int32_t)number;
        return add(&to->values, &few, sizeof few);
    case 'p':
        if (number > MOST_PICO || number < -MOST_PICO)
            return 0;
    }
    return add(&to->values, &number, sizeof number);
}

static int add_numbers(Column *to, Reader *from)
{
    uint32_t length;
    int64_t number;
    if (!read_list(from, &length))
        return 0;
    while (length-- > 0) {
        if (!read_integer(from, &number))
            return 0;
        if (add(&to->items, &number, sizeof number) < 0)
            return -1;
    }
    return add_offset(&to->values, to->items.size / sizeof number);
}

static int add_texts(Column *to, Reader *from)
{
    uint32_t length, size;
    const uint8_t *text;
    if (!read_list(from, &length))
        return 0;
    while (length-- > 0) {
        if (!read_text(from, &text, &size))
            return 0;
        int done = add_text(&to->items, &to->item_texts, text, size);
        if (done != 1)
            return done;
    }
    return add_offset(&to->values, to->items.size / sizeof(int32_t) - 1);
}

/* Keys go to `texts` with their offsets in `valid`, which no map needs; what they stand for as items do. */
static int add_pairs(Column *to, Reader *from)
{
    const uint8_t *key, *text, *known[DEEPEST];
    uint32_t length, size, key_size, known_size[DEEPEST];
    if (!read_pairs(from, &length) || length > DEEPEST)
        return 0;
    for (uint32_t place = 0; place < length; place++) {
        if (!read_text(from, &key, &key_size) || !read_text(from, &text, &size))
            return 0;
        for (uint32_t before = 0; before < place; before++)
            if (known_size[before] == key_size && memcmp(known[before], key, key_size) == 0)
                return 0;
        known[place] = key;
        known_size[place] = key_size;
        int done = add_text(&to->valid, &to->texts, key, key_size);
        if (done == 1)
            done = add_text(&to->items, &to->item_texts, text, size);
        if (done != 1)
            return done;
    }
    return add_offset(&to->values, to->items.size / sizeof(int32_t) - 1);
}

/* The object for what `from` stood before, at `start`; most columns say again what they said last. */
static PyObject *said(Column *column, const uint8_t *start, uint32_t size, int text)
{
    if (column->last == NULL || column->last_size != size || memcmp(column->last_text, start, size) != 0) {
        const char *data = (const char *)start;
        PyObject *made = text ? PyUnicode_DecodeUTF8(data, size, "strict") : PyBytes_FromStringAndSize(data, size);
        if (made == NULL)
            return NULL;
        Py_XSETREF(column->last, made);
        column->last_text = start;
        column->last_size = size;
    }
    return Py_NewRef(column->last);
}

static int add_packed(Column *to, Reader *from)
{
    const uint8_t *start = from->at;
    if (from->at >= from->end || ((*start & 0xf0) != 0x80 && *start != 0xde) || !read_past(from, DEEPEST))
        return 0;
    PyObject *packed = said(to, start, (uint32_t)(from->at - start), 0);
    int done = packed == NULL ? -1 : PyList_Append(to->packed, packed);
    Py_XDECREF(packed);
    return done < 0 ? -1 : 1;
}

int add_field(Column *to, Reader *from)
{
    const uint8_t *text;
    uint32_t size;
    int flag, done;
    switch (to->kind) {
    case 't':
        done = read_text(from, &text, &size) ? add_text(&to->values, &to->texts, text, size) : 0;
        break;
    case 'f':
        done = read_flag(from, &flag) ? add_bit(&to->values, to->rows, flag) : 0;
        break;
    case 'g':
        done = add_pairs(to, from);
        break;
    case 'h':
        done = add_numbers(to, from);
        break;
    case 'j':
        done = add_packed(to, from);
        break;
    case 'w':
        done = add_texts(to, from);
        break;
    case 'x':
        done = read_nil(from);
        break;
    default:
        done = add_number(to, from);
    }
    to->rows++;
    return done;
}

/* A field of a record as an object: texts, numbers, lists of numbers, and of attempts how many they are. */
PyObject *as_object(Column *column, const uint8_t *start, const uint8_t *end)
{
    Reader from = {start, end};
    const uint8_t *text;
    uint32_t length;
    int64_t number;
    if (column->kind == 't' && read_text(&from, &text, &length))
        return said(column, text, length, 1);
    if (column->kind == 'a' && read_list(&from, &length))
        return PyLong_FromUnsignedLong(length);
    if (column->kind != 'h')
        return read_integer(&from, &number) ? PyLong_FromLongLong(number) : Py_NewRef(Py_None);
    if (!read_list(&from, &length))
        return PyList_New(0);
    PyObject *list = PyList_New((Py_ssize_t)length);
    for (uint32_t place = 0; list != NULL && place < length; place++) {
        PyObject *item = read_integer(&from, &number) ? PyLong_FromLongLong(number) : NULL;
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)place, item);
    }
    return list;
}

int begin(Column *column, char kind)
{
    column->kind = kind;
    int done = 1;
    if (strchr("tghw", kind) != NULL)
        done = add_offset(&column->values, 0);
    if (done == 1 && strchr("gw", kind) != NULL)
        done = add_offset(&column->items, 0);
    if (done == 1 && kind == 'g')
        done = add_offset(&column->valid, 0);
    if (kind == 'j' && (column->packed = PyList_New(0)) == NULL)
        return -1;
    return done;
}

void end(Column *column)
{
    Buffer *all[] = {&column->valid, &column->values, &column->texts, &column->items, &column->item_texts};
    for (size_t place = 0; place < sizeof all / sizeof *all; place++)
        PyMem_Free(all[place]->data);
    Py_CLEAR(column->packed);
    Py_CLEAR(column->last);
}

/* (rows that are nil, five buffers), or the list of attributes, or None for what is no column. */
PyObject *finished(Column *column)
{
    if (column->kind == 'j')
        return Py_NewRef(column->packed);
    if (column->kind == 'x' || column->kind == 'a')
        return Py_NewRef(Py_None);
    Buffer *all[] = {&column->valid, &column->values, &column->texts, &column->items, &column->item_texts};
    PyObject *made = PyTuple_New(6);
    if (made == NULL)
        return NULL;
    PyTuple_SET_ITEM(made, 0, PyLong_FromUnsignedLong(column->nulls));
    for (int place = 0; place < 5; place++) {
        const char *data = all[place]->data == NULL ? "" : (const char *)all[place]->data;
        PyTuple_SET_ITEM(made, place + 1, PyBytes_FromStringAndSize(data, (Py_ssize_t)all[place]->size));
    }
    for (int place = 0; place < 6; place++)
        if (PyTuple_GET_ITEM(made, place) == NULL) {
            Py_DECREF(made);
            return NULL;
        }
    return made;
}
