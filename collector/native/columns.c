/* Records of the journal as the buffers of Arrow's columns.

   Each record is an array of the fields that the plan names, no more and no fewer, each of its kind (fields.h).
   Whatever is otherwise, in any of the records, is left to Python: None is the answer. */
#include "fields.h"

#define MOST_FIELDS 128

typedef struct {
    Column column[MOST_FIELDS];
    int width;
} Table;

static int add_attempts(Table *to, Column *owner, Column *count, Reader *from, Reader call_id)
{
    uint32_t length, width;
    if (!read_list(from, &length))
        return 0;
    int64_t number = length;
    if (add(&count->values, &number, sizeof number) < 0)
        return -1;
    while (length-- > 0) {
        Reader again = call_id;
        int done = add_field(owner, &again);
        if (done == 1 && (!read_list(from, &width) || (int)width != to->width))
            return 0;
        for (int place = 0; done == 1 && place < to->width; place++)
            done = add_field(&to->column[place], from);
        if (done != 1)
            return done;
    }
    return 1;
}

static int add_record(Table *calls, Table *attempts, Column *owner, Column *count, Reader *from,
                      PyObject *wanted, PyObject *facts)
{
    const uint8_t *starts[MOST_FIELDS + 1];
    uint32_t width;
    if (!read_list(from, &width) || (int)width != calls->width)
        return 0;
    Reader call_id = *from;
    for (int place = 0; place < calls->width; place++) {
        Column *column = &calls->column[place];
        starts[place] = from->at;
        int done = column->kind == 'a' ? add_attempts(attempts, owner, count, from, call_id) : add_field(column, from);
        if (done != 1)
            return done;
    }
    if (from->at != from->end)
        return 0;
    starts[calls->width] = from->at;
    PyObject *told = PyTuple_New(PyTuple_GET_SIZE(wanted));
    for (Py_ssize_t fact = 0; told != NULL && fact < PyTuple_GET_SIZE(wanted); fact++) {
        long place = PyLong_AsLong(PyTuple_GET_ITEM(wanted, fact));
        PyObject *object = NULL;
        if (place >= 0 && place < calls->width)
            object = as_object(&calls->column[place], starts[place], starts[place + 1]);
        if (object == NULL)
            Py_CLEAR(told);
        else
            PyTuple_SET_ITEM(told, fact, object);
    }
    if (told == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "no such field");
        return -1;
    }
    int done = PyList_Append(facts, told);
    Py_DECREF(told);
    return done < 0 ? -1 : 1;
}

static int begin_all(Table *table, const char *plan, Py_ssize_t width)
{
    if (width > MOST_FIELDS) {
        PyErr_SetString(PyExc_ValueError, "too many fields");
        return -1;
    }
    table->width = (int)width;
    for (int place = 0; place < table->width; place++)
        if (begin(&table->column[place], plan[place]) < 0)
            return -1;
    return 1;
}

static void end_all(Table *table)
{
    for (int place = 0; place < table->width; place++)
        end(&table->column[place]);
}

static PyObject *finished_all(Table *table)
{
    PyObject *list = PyList_New(table->width);
    for (int place = 0; list != NULL && place < table->width; place++) {
        PyObject *made = finished(&table->column[place]);
        if (made == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, place, made);
    }
    return list;
}

/* Owner and number of attempts come from the call; the sixth item is how many attempts there are. */
static PyObject *result(Table *calls, Table *attempts, Column *owner, Column *count, PyObject *facts)
{
    PyObject *of_calls = finished_all(calls), *of_attempts = finished_all(attempts);
    PyObject *owners = finished(owner), *counts = finished(count), *all = NULL;
    if (of_calls && of_attempts && owners && counts)
        all = Py_BuildValue("(OOOOOI)", facts, of_calls, counts, of_attempts, owners, owner->rows);
    Py_XDECREF(of_calls);
    Py_XDECREF(of_attempts);
    Py_XDECREF(owners);
    Py_XDECREF(counts);
    return all;
}

/* The records among the frames at `places`, one after the other; 0 where one is longer than `largest`. */
static int add_frames(Table *tables, Column *owner, Column *count, PyObject *data, PyObject *places, PyObject *wanted,
                      PyObject *facts, Py_ssize_t largest)
{
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(data);
    const Place *place = (const Place *)PyBytes_AS_STRING(places);
    Py_ssize_t frames = PyBytes_GET_SIZE(places) / (Py_ssize_t)sizeof(Place);
    int done = 1;
    for (; done == 1 && frames > 0; frames--, place++) {
        if (place->kind != RECORD_KIND)
            continue;
        if (place->size > (size_t)largest)
            return 0;
        Reader from = {start + place->start, start + place->start + place->size};
        done = add_record(&tables[0], &tables[1], owner, count, &from, wanted, facts);
    }
    return done;
}

static int add_payloads(Table *tables, Column *owner, Column *count, PyObject *payloads, PyObject *wanted,
                        PyObject *facts, Py_ssize_t largest)
{
    int done = 1;
    for (Py_ssize_t place = 0; done == 1 && place < PyList_GET_SIZE(payloads); place++) {
        PyObject *payload = PyList_GET_ITEM(payloads, place);
        if (!PyBytes_Check(payload)) {
            PyErr_SetString(PyExc_TypeError, "payloads are bytes");
            return -1;
        }
        if (PyBytes_GET_SIZE(payload) > largest)
            return 0;
        const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(payload);
        Reader from = {data, data + PyBytes_GET_SIZE(payload)};
        done = add_record(&tables[0], &tables[1], owner, count, &from, wanted, facts);
    }
    return done;
}

/* columns(payloads: list[bytes] | tuple[bytes, bytes], plan: bytes, attempts_plan: bytes, wanted: tuple[int, ...],
           largest: int) -> (facts, columns, attempt counts, columns of attempts, whose they are, how many) or None

   Instead of payloads, what was read of a journal and the places of frames in it. */
PyObject *columns(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    PyObject *data = NULL, *found = NULL;
    Py_ssize_t largest = number == 5 ? PyLong_AsSsize_t(given[4]) : -1;
    if (largest >= 0 && PyTuple_Check(given[0]) && PyTuple_GET_SIZE(given[0]) == 2) {
        data = PyTuple_GET_ITEM(given[0], 0);
        found = PyTuple_GET_ITEM(given[0], 1);
        if (!PyBytes_Check(data) || !PyBytes_Check(found) || !lie_within(data, found))
            largest = -1;
    } else if (largest >= 0 && !PyList_Check(given[0])) {
        largest = -1;
    }
    if (largest < 0 || !PyBytes_Check(given[1]) || !PyBytes_Check(given[2]) || !PyTuple_Check(given[3])) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "columns(list or (bytes, bytes), bytes, bytes, tuple, int)");
        return NULL;
    }
    Table *tables = PyMem_Calloc(2, sizeof(Table));
    Column owner = {0}, count = {0};
    PyObject *facts = PyList_New(0), *all = NULL;
    int done = tables != NULL && facts != NULL ? 1 : -1;
    if (tables == NULL)
        PyErr_NoMemory();
    if (done == 1)
        done = begin_all(&tables[0], PyBytes_AS_STRING(given[1]), PyBytes_GET_SIZE(given[1]));
    if (done == 1)
        done = begin_all(&tables[1], PyBytes_AS_STRING(given[2]), PyBytes_GET_SIZE(given[2]));
    if (done == 1)
        done = begin(&owner, 't');
    if (done == 1)
        done = begin(&count, 'i');
    if (done == 1)
        done = data != NULL ? add_frames(tables, &owner, &count, data, found, given[3], facts, largest)
                            : add_payloads(tables, &owner, &count, given[0], given[3], facts, largest);
    if (done == 1)
        all = result(&tables[0], &tables[1], &owner, &count, facts);
    else if (done == 0)
        all = Py_NewRef(Py_None);
    for (int place = 0; tables != NULL && place < 2; place++)
        end_all(&tables[place]);
    end(&owner);
    end(&count);
    PyMem_Free(tables);
    Py_XDECREF(facts);
    return all;
}
