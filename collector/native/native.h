/* What the files of this extension share. */
#ifndef BURSAR_COLLECTOR_NATIVE_H
#define BURSAR_COLLECTOR_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Raised with every change of what the functions take or return; collector/native/__init__.py has the same. */
#define INTERFACE 2

/* msgpack.c: each reads one value and moves on; 0 where it is not of that kind, or cut off. */
typedef struct {
    const uint8_t *at, *end;
} Reader;
int read_nil(Reader *from);
int read_flag(Reader *from, int *flag);
int read_integer(Reader *from, int64_t *number);
int read_text(Reader *from, const uint8_t **text, uint32_t *size);
int read_list(Reader *from, uint32_t *length);
int read_pairs(Reader *from, uint32_t *length);
int read_past(Reader *from, int depth);
int is_utf8(const uint8_t *text, size_t size);

/* frames.c: where the payload of a frame stands in what was read; collector/frames.py unpacks it. */
typedef struct {
    uint64_t sequence;
    uint32_t start, size, kind, unused;
} Place;
enum { INTENT_KIND = 1, RECORD_KIND = 2 };
void frames_init(void);
int lie_within(PyObject *data, PyObject *places);
PyObject *places(PyObject *module, PyObject *data);
PyObject *paired(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* columns.c */
PyObject *columns(PyObject *module, PyObject *const *given, Py_ssize_t number);

#endif
