/* Named tuples made of others. */
#include "native.h"

/* replaced(fields: tuple, at: int, *values) -> a tuple of the same type, with these values from there on */
PyObject *replaced(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    Py_ssize_t at = -1, values = number - 2;
    if (number > 2 && PyTuple_Check(given[0]) && PyLong_CheckExact(given[1]))
        at = PyLong_AsSsize_t(given[1]);
    if (at < 0 || at > PyTuple_GET_SIZE(given[0]) - values) {
        PyErr_SetString(PyExc_TypeError, "replaced(fields: tuple, at: int, *values), of fields that are there");
        return NULL;
    }
    PyTypeObject *type = Py_TYPE(given[0]);
    PyObject *made = type->tp_alloc(type, PyTuple_GET_SIZE(given[0]));
    for (Py_ssize_t place = 0; made != NULL && place < PyTuple_GET_SIZE(made); place++) {
        int kept = place < at || place >= at + values;
        PyTuple_SET_ITEM(made, place, Py_NewRef(kept ? PyTuple_GET_ITEM(given[0], place) : given[2 + place - at]));
    }
    return made;
}
