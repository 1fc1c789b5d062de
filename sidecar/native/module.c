/* What Python sees of the extension: a table of functions, and the interface they stand for. */
#include "native.h"

static PyMethodDef functions[] = {
    {"fold", (PyCFunction)(void (*)(void))fold, METH_FASTCALL, NULL},
    {"filled", (PyCFunction)(void (*)(void))filled, METH_FASTCALL, NULL},
    {"read_completion", (PyCFunction)(void (*)(void))read_completion, METH_FASTCALL, NULL},
    {"read_chat", (PyCFunction)(void (*)(void))read_chat, METH_FASTCALL, NULL},
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
    if (chat_init() < 0 || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
