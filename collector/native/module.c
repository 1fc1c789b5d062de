/* What Python sees of the extension: a table of functions, and the interface they stand for. */
#include "native.h"

static PyMethodDef functions[] = {
    {"columns", (PyCFunction)(void (*)(void))columns, METH_FASTCALL, NULL},
    {"paired", (PyCFunction)(void (*)(void))paired, METH_FASTCALL, NULL},
    {"places", places, METH_O, NULL},
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
    frames_init();
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0)
        Py_CLEAR(module);
    return module;
}
