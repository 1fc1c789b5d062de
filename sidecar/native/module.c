/* What Python sees of the extension: a table of functions, and the interface they stand for. */
#include "native.h"

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef functions[] = {
    FAST(charged),
    FAST(claimed),
    {"credit_of", credit_of, METH_O, NULL},
    FAST(drawn_ids),
    {"field_lines", field_lines, METH_O, NULL},
    FAST(filled),
    FAST(fold),
    FAST(frame_bytes),
    FAST(has_more_members),
    FAST(prefix_key),
    FAST(read_chat),
    {"read_chunk", read_chunk, METH_O, NULL},
    FAST(read_completion),
    FAST(read_response_head),
    FAST(record),
    FAST(records_of),
    FAST(replaced),
    {"told_two_ways", told_two_ways, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    digests_init();
    heads_init();
    if (chat_init() < 0 || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0 ||
        PyModule_AddType(module, &lane_type) < 0 || PyModule_AddType(module, &gate_type) < 0 ||
        stitching_init(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
