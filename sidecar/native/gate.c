/* The gate that an upstream's bytes come through: chunks that a lane reads leave for the client at once.
 *
 * Its twin is PlainGate of sidecar/http/gate.py. */
#include "native.h"
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    char open, stirred;
    Py_ssize_t coded, bodies, passed;
    PyObject *read, *lane, *write, *told;
} Gate;

static PyObject *gate_read(Gate *self, PyObject *data)
{
    if (self->read == NULL)
        Py_RETURN_NONE;
    PyObject *read = Py_NewRef(self->read);
    PyObject *done = PyObject_CallOneArg(read, data);
    Py_DECREF(read);
    return done;
}

static PyObject *gate_take(Gate *self, PyObject *data)
{
    self->stirred = 1;
    if (!self->open || self->lane == NULL)
        return gate_read(self, data);
    Py_ssize_t size;
    if (lane_read(self->lane, data, &size) < 0)
        return NULL;
    if (size == 0) {
        self->open = 0;
        return gate_read(self, data);
    }
    self->coded += PyBytes_GET_SIZE(data);
    self->bodies += size < 0 ? -size : size;
    if (size > 0)
        self->passed += size;
    /* Either may shut the gate. */
    PyObject *next = Py_NewRef(size > 0 ? self->write : self->told);
    PyObject *done = PyObject_CallOneArg(next, data);
    Py_DECREF(next);
    return done;
}

static PyObject *gate_lead(Gate *self, PyObject *const *given, Py_ssize_t number)
{
    if (number != 3 || !Py_IS_TYPE(given[0], &lane_type)) {
        PyErr_SetString(PyExc_TypeError, "lead(lane: Lane, write, told)");
        return NULL;
    }
    Py_XSETREF(self->lane, Py_NewRef(given[0]));
    Py_XSETREF(self->write, Py_NewRef(given[1]));
    Py_XSETREF(self->told, Py_NewRef(given[2]));
    self->open = 1;
    Py_RETURN_NONE;
}

static PyObject *gate_shut(Gate *self, PyObject *Py_UNUSED(none))
{
    PyObject *passed = PyLong_FromSsize_t(self->passed);
    self->open = 0;
    self->passed = 0;
    Py_CLEAR(self->lane);
    Py_CLEAR(self->write);
    Py_CLEAR(self->told);
    return passed;
}

static PyObject *gate_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    PyObject *read;
    if (!PyArg_ParseTuple(args, "O", &read))
        return NULL;
    Gate *self = (Gate *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->read = Py_NewRef(read);
    return (PyObject *)self;
}

static int gate_traverse(Gate *self, visitproc visit, void *arg)
{
    Py_VISIT(self->read);
    Py_VISIT(self->lane);
    Py_VISIT(self->write);
    Py_VISIT(self->told);
    return 0;
}

static int gate_clear(Gate *self)
{
    self->open = 0;
    Py_CLEAR(self->read);
    Py_CLEAR(self->lane);
    Py_CLEAR(self->write);
    Py_CLEAR(self->told);
    return 0;
}

static void gate_free(Gate *self)
{
    PyObject_GC_UnTrack(self);
    gate_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *gate_leave(Gate *self, PyObject *Py_UNUSED(none))
{
    gate_clear(self);
    Py_RETURN_NONE;
}

static PyMethodDef gate_methods[] = {
    {"take", (PyCFunction)gate_take, METH_O, "take(data: bytes) -> None\n\nBytes have come."},
    {"lead", (PyCFunction)(void (*)(void))gate_lead, METH_FASTCALL,
     "lead(lane, write, told) -> None\n\nOpen: what `lane` reads goes to `write`, or to `told` where it is to be told."},
    {"shut", (PyCFunction)gate_shut, METH_NOARGS,
     "shut() -> int\n\nAll goes to `read` again; the bytes of body that went to `write` since the last time."},
    {"leave", (PyCFunction)gate_leave, METH_NOARGS, "leave() -> None\n\nNothing goes anywhere any more."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef gate_members[] = {
    {"open", T_BOOL, offsetof(Gate, open), 0, "Whether the lane is asked."},
    {"stirred", T_BOOL, offsetof(Gate, stirred), 0, "Whether bytes have come."},
    {"coded", T_PYSSIZET, offsetof(Gate, coded), 0, "Bytes that the lane took."},
    {"bodies", T_PYSSIZET, offsetof(Gate, bodies), 0, "Bytes of body in them."},
    {"passed", T_PYSSIZET, offsetof(Gate, passed), READONLY, "Bytes of body that went to `write`."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject gate_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sidecar.native.Gate",
    .tp_basicsize = sizeof(Gate),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Gate(read)\n\nWhat an upstream's bytes come through; shut, all goes to `read`.",
    .tp_new = gate_new,
    .tp_dealloc = (destructor)gate_free,
    .tp_traverse = (traverseproc)gate_traverse,
    .tp_clear = (inquiry)gate_clear,
    .tp_methods = gate_methods,
    .tp_members = gate_members,
};
