/* What the files of this extension share. */
#ifndef BURSAR_NATIVE_H
#define BURSAR_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Raised with every change of what the functions take or return; sidecar/native/__init__.py has the same. */
#define INTERFACE 14

/* digests.c */
#define SHAPE_BITS 0x7fffffffu
void digests_init(void);
uint32_t crc32_of(const uint8_t *data, size_t size, uint32_t seed);
/* As crc32_of, of the text without its digits. */
uint32_t crc32_shape(const uint8_t *text, size_t size, uint32_t seed);
uint64_t two_ways(const uint8_t *text, size_t size);
/* Goes on from `seed` with the UTF-8 of `text`, what no UTF-8 can say replaced; -1 with an exception. */
int seeded(PyObject *text, uint32_t *seed);
uint64_t folded(uint64_t previous, uint32_t seed, const uint8_t *text, size_t size);
PyObject *fold(PyObject *module, PyObject *const *given, Py_ssize_t number);
PyObject *told_two_ways(PyObject *module, PyObject *text);

/* beginnings.c */
PyObject *prefix_key(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* chat.c */
int chat_init(void);
PyObject *read_chat(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* chunk.c */
PyObject *read_chunk(PyObject *module, PyObject *payload);

/* completion.c */
PyObject *read_completion(PyObject *module, PyObject *const *given, Py_ssize_t number);
PyObject *filled(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* members.c */
PyObject *has_more_members(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* heads.c */
void heads_init(void);
PyObject *field_lines(PyObject *module, PyObject *fields);
PyObject *read_response_head(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* frames.c */
PyObject *frame_bytes(PyObject *module, PyObject *const *given, Py_ssize_t number);
PyObject *drawn_ids(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* slots.c: where a slot lies in an object of `type`; -1 with an exception. */
Py_ssize_t place_of(PyObject *type, const char *name);

/* records.c */
PyObject *record(PyObject *module, PyObject *const *given, Py_ssize_t number);
PyObject *records_of(PyObject *module, PyObject *const *given, Py_ssize_t number);

/* credit.c */
PyObject *charged(PyObject *module, PyObject *const *given, Py_ssize_t number);
PyObject *claimed(PyObject *module, PyObject *const *given, Py_ssize_t number);
PyObject *credit_of(PyObject *module, PyObject *type);

/* streams.c */
extern PyTypeObject lane_type;
/* What a lane's `take` gives of `data`; -1 with an exception. */
int lane_read(PyObject *lane, PyObject *data, Py_ssize_t *taken);

/* gate.c */
extern PyTypeObject gate_type;

/* stitching.c */
int stitching_init(PyObject *module);

/* tuples.c */
PyObject *replaced(PyObject *module, PyObject *const *given, Py_ssize_t number);

#endif
