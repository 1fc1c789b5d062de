/* What Python sees of the extension: a table of functions, and the interface they stand for. */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static int runs_here(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static PyMethodDef functions[] = {
    FAST(layers),
    FAST(passing),
    {NULL, NULL, 0, NULL},
};

#else

static int runs_here(void)
{
    return 0;
}

static PyMethodDef functions[] = {{NULL, NULL, 0, NULL}};

#endif

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL
        && (PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0
            || PyModule_AddIntConstant(module, "RUNS_HERE", runs_here()) < 0
            || PyModule_AddIntConstant(module, "PANEL", PANEL) < 0
            || PyModule_AddIntConstant(module, "STRIDE", STRIDE) < 0))
        Py_CLEAR(module);
    return module;
}
