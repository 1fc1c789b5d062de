/* What the files of this extension share. */
#ifndef BURSAR_SIMILAR_NATIVE_H
#define BURSAR_SIMILAR_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Raised with every change of what the functions take or return; __init__.py has the same. */
#define INTERFACE 2

/* encoder.c: columns of a panel of weights. */
#define PANEL 16
PyObject *layers(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* sieve.c: columns of a row are filled up to a multiple of so many. */
#define STRIDE 16
PyObject *passing(PyObject *module, PyObject *const *given, Py_ssize_t number);

#endif
