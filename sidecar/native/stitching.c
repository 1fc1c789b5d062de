/* Stitcher of collector/domain/stitching.py, with the same results: what Python sees of it.

   stitching_rules.c has its rules, stitching_memory.c its memory. Hashes are taken for numbers of 63 bits.
   Texts are strings and no subclass of them, so that no code but this runs before a call is placed. */
#include "stitching.h"
#include <stddef.h>
#include <structmember.h>

/* ---- placements ---- */

typedef struct {
    PyObject_HEAD
    Branch *line;
    PyObject *via;
    int64_t state;
} Placement;

static PyObject *placement_conversation_id(Placement *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->line->conversation->id);
}

static PyObject *placement_branch(Placement *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->line->number);
}

static void placement_free(Placement *self)
{
    Py_DECREF(self->line);
    Py_DECREF(self->via);
    PyObject_Free(self);
}

static PyGetSetDef placement_parts[] = {
    {"conversation_id", (getter)placement_conversation_id, NULL, NULL, NULL},
    {"branch", (getter)placement_branch, NULL,
     "Counts from 0 in the order in which the lines of a conversation were seen.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef placement_members[] = {
    {"via", T_OBJECT, offsetof(Placement, via), READONLY, NULL},
    {"state", T_LONGLONG, offsetof(Placement, state), READONLY,
     "Where its request ends; 0 when the request does not hold its history."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject placement_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sidecar.native.Placement",
    .tp_basicsize = sizeof(Placement),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Where a call belongs. Hand it back to `Stitcher.settle` when the call has ended.",
    .tp_dealloc = (destructor)placement_free,
    .tp_getset = placement_parts,
    .tp_members = placement_members,
};

/* ---- what is asked ---- */

enum { SCOPE, HASHES, FRESH_ID, EXPLICIT_ID, PREVIOUS_RESPONSE_ID, ASKED_RUN, INSTRUCTIONS_APART, ARGUMENTS };
#define PLACED 3 /* arguments that have a place; the others have a name */

static const char *const argument_names[ARGUMENTS] = {
    "scope", "hashes", "fresh_id", "explicit_id", "previous_response_id", "run", "instructions_apart",
};
static PyObject *names[ARGUMENTS];

static const char SIGNATURE[] =
    "place(scope: tuple[str, ...], hashes: Sequence[int], fresh_id: str, *, explicit_id: str = \"\",\n"
    "previous_response_id: str = \"\", run: str = \"\", instructions_apart: bool = False) -> Placement";

static int wrong_call(void)
{
    PyErr_SetString(PyExc_TypeError, SIGNATURE);
    return -1;
}

static int argument_named(PyObject *name)
{
    for (int argument = PLACED; argument < ARGUMENTS; argument++)
        if (name == names[argument])
            return argument;
    for (int argument = PLACED; argument < ARGUMENTS; argument++)
        if (PyUnicode_CompareWithASCIIString(name, argument_names[argument]) == 0)
            return argument;
    return ARGUMENTS;
}

/* The arguments, NULL for those that are empty. */
static int read_arguments(PyObject **asked, PyObject *const *given, Py_ssize_t number, PyObject *keywords)
{
    if (number != PLACED)
        return wrong_call();
    for (int argument = 0; argument < ARGUMENTS; argument++)
        asked[argument] = argument < PLACED ? given[argument] : NULL;
    for (Py_ssize_t place = 0; keywords != NULL && place < PyTuple_GET_SIZE(keywords); place++) {
        int argument = argument_named(PyTuple_GET_ITEM(keywords, place));
        if (argument == ARGUMENTS)
            return wrong_call();
        asked[argument] = given[PLACED + place];
    }
    if (!PyTuple_CheckExact(asked[SCOPE]) || !PyUnicode_CheckExact(asked[FRESH_ID]))
        return wrong_call();
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(asked[SCOPE]); place++)
        if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(asked[SCOPE], place)))
            return wrong_call();
    for (int argument = EXPLICIT_ID; argument <= ASKED_RUN; argument++) {
        if (asked[argument] == NULL)
            continue;
        if (!PyUnicode_CheckExact(asked[argument]))
            return wrong_call();
        if (!PyUnicode_GET_LENGTH(asked[argument]))
            asked[argument] = NULL;
    }
    if (asked[INSTRUCTIONS_APART] != NULL && !PyBool_Check(asked[INSTRUCTIONS_APART]))
        return wrong_call();
    return 0;
}

/* ---- placing ---- */

/* The hash of a response's id in 63 bits; -1 with an exception. */
static int64_t response_of(PyObject *id)
{
    Py_hash_t hash = PyObject_Hash(id);
    return hash == -1 ? -1 : (int64_t)((uint64_t)hash & BITS);
}

/* The line of the conversation called `name` that the hashes go on. */
static Found named(Stitcher *self, Scope *scope, Hashes *hashes, int64_t state, PyObject *name)
{
    Found found = {.via = EXPLICIT};
    Conversation *conversation = (Conversation *)PyDict_GetItemWithError(scope->by_id, name);
    if (conversation == NULL) {
        if (PyErr_Occurred() || hashes->wrong || (conversation = begin(self, scope, name, state)) == NULL)
            return found;
        found.line = branch_of(conversation);
        found.shared = hashes->count;
        Py_DECREF(conversation);
        return found;
    }
    for (Py_ssize_t at = hashes->count - 1; at >= 0 && at >= hashes->count - PROBES; at--) {
        int64_t known = hash_at(hashes, at);
        PyObject *entry = whose(&self->index, key_of(scope, known));
        if (entry == NULL)
            continue;
        int shared = Py_IS_TYPE(entry, &sharing_type);
        for (int place = 0; place < (shared ? ((Sharing *)entry)->count : 1); place++) {
            Branch *line = shared ? ((Sharing *)entry)->lines[place] : (Branch *)entry;
            if (line->conversation == conversation) {
                found.line = line_at(line, known);
                found.shared = at + 1;
                return found;
            }
        }
    }
    found.line = branch_of(conversation);
    return found;
}

/* Remember the end of a request, and the longer ones of the messages it has gained last. */
static int learn(Stitcher *self, Branch *line, Hashes *hashes, Py_ssize_t shared)
{
    Scope *scope = line->conversation->scope;
    Py_ssize_t count = hashes->count;
    int64_t last = hash_at(hashes, count - 1), before = count > 1 ? hash_at(hashes, count - 2) : 0;
    line->tail = 0;
    if (shared == count) { /* An opening, or a request that is known. */
        if (count >= LONG_OPENING) {
            line->tail = before;
            if (note(self, line, key_of(scope, before)) < 0)
                return -1;
        }
    } else {
        uint64_t digest;
        if (count - 1 > shared) {
            line->tail = before;
            if (note(self, line, key_of(scope, before)) < 0)
                return -1;
            digest = digest_of(count > 2 ? hash_at(hashes, count - 3) : 0, before);
            if (is_strong(digest) && note(self, line, key_of(scope, (int64_t)~digest)) < 0)
                return -1;
        }
        digest = digest_of(before, last);
        if (is_strong(digest) && note(self, line, key_of(scope, (int64_t)~digest)) < 0)
            return -1;
    }
    return note(self, line, key_of(scope, last));
}

static int take_run(Scope *scope, Conversation *conversation, PyObject *run)
{
    if (conversation->run != NULL)
        return 0;
    if (scope->runs == NULL && (scope->runs = PyDict_New()) == NULL)
        return -1;
    int taken = PyDict_Contains(scope->runs, run);
    if (taken)
        return taken < 0 ? -1 : 0;
    if (PyDict_SetItem(scope->runs, run, (PyObject *)conversation) < 0)
        return -1;
    conversation->run = Py_NewRef(run);
    return 0;
}

/* The line of the conversation that a run is known by: NULL, without an exception, where there is none. */
static Branch *of_run(Scope *scope, PyObject *run)
{
    PyObject *conversation = scope->runs == NULL ? NULL : PyDict_GetItemWithError(scope->runs, run);
    return conversation == NULL ? NULL : branch_of((Conversation *)conversation);
}

/* The line that a call belongs to, begun for it where need be; none, and an exception, where that fails. */
static Found found_for(Stitcher *self, Scope *scope, Hashes *hashes, int64_t state, PyObject **asked)
{
    Found found = {.via = NEW};
    if (asked[EXPLICIT_ID] != NULL)
        return named(self, scope, hashes, state, asked[EXPLICIT_ID]);
    if (asked[PREVIOUS_RESPONSE_ID] != NULL) {
        int64_t response = response_of(asked[PREVIOUS_RESPONSE_ID]);
        if (response < 0)
            return found;
        found = answering(self, scope, response);
    } else
        found = lookup(self, scope, hashes, asked[INSTRUCTIONS_APART] == Py_True ? 0 : 1);
    if (found.line != NULL || found.via != NEW || hashes->wrong)
        return found;
    if (asked[ASKED_RUN] != NULL) {
        found.line = of_run(scope, asked[ASKED_RUN]);
        if (found.line != NULL || PyErr_Occurred()) {
            found.via = RUN;
            return found;
        }
    }
    Conversation *conversation = begin(self, scope, asked[FRESH_ID], state);
    if (conversation != NULL) {
        found.line = branch_of(conversation);
        found.shared = hashes->count;
        Py_DECREF(conversation);
    }
    return found;
}

static Placement *placed(Stitcher *self, Scope *scope, Hashes *hashes, PyObject **asked)
{
    int64_t state = hashes->count ? hash_at(hashes, hashes->count - 1) : 0;
    for (Py_ssize_t back = 2; back <= 3 && back <= hashes->count; back++)
        hash_at(hashes, hashes->count - back); /* Those that are learnt are looked at before anything changes. */
    Found found = {.via = NEW};
    if (!hashes->wrong)
        found = found_for(self, scope, hashes, state, asked);
    Branch *line = found.line;
    if (hashes->wrong) {
        Py_XDECREF(line);
        wrong_call();
        return NULL;
    }
    if (line == NULL)
        return NULL;
    Conversation *conversation = line->conversation;
    if (found.via != NEW) {
        conversation->failed = 0;
        heard_of(self, conversation);
    }
    if ((asked[ASKED_RUN] != NULL && take_run(scope, conversation, asked[ASKED_RUN]) < 0) ||
        (state && learn(self, line, hashes, found.shared) < 0)) {
        Py_DECREF(line);
        return NULL;
    }
    line->head = state;
    Placement *placement = forget(self, conversation) < 0 ? NULL : PyObject_New(Placement, &placement_type);
    if (placement == NULL) {
        Py_DECREF(line);
        return NULL;
    }
    placement->line = line;
    placement->via = Py_NewRef(PyTuple_GET_ITEM(self->vias, found.via));
    placement->state = state;
    return placement;
}

static PyObject *stitcher_place(Stitcher *self, PyObject *const *given, Py_ssize_t number, PyObject *keywords)
{
    PyObject *asked[ARGUMENTS];
    if (read_arguments(asked, given, number, keywords) < 0)
        return NULL;
    PyObject *items = PySequence_Fast(asked[HASHES], SIGNATURE);
    if (items == NULL)
        return NULL;
    Hashes hashes = {.items = PySequence_Fast_ITEMS(items)};
    if (asked[PREVIOUS_RESPONSE_ID] == NULL) /* Else the provider keeps the history. */
        hashes.count = PySequence_Fast_GET_SIZE(items);
    Scope *scope = scope_named(self, asked[SCOPE]);
    Placement *placement = scope == NULL ? NULL : placed(self, scope, &hashes, asked);
    Py_XDECREF(scope);
    Py_DECREF(items);
    return (PyObject *)placement;
}

/* settle(placement, last_message_hash: int, response_id: str = "") -> None */
static PyObject *stitcher_settle(Stitcher *self, PyObject *const *given, Py_ssize_t number)
{
    if (number < 2 || number > 3 || !Py_IS_TYPE(given[0], &placement_type) || !PyLong_Check(given[1]) ||
        (number == 3 && !PyUnicode_CheckExact(given[2]))) {
        PyErr_SetString(PyExc_TypeError, "settle(placement, last_message_hash: int, response_id: str = \"\")");
        return NULL;
    }
    int64_t state = ((Placement *)given[0])->state, last = (int64_t)PyLong_AsUnsignedLongLongMask(given[1]);
    Branch *line = ((Placement *)given[0])->line;
    Conversation *conversation = line->conversation;
    Scope *scope = conversation->scope;
    if (!conversation->remembered || scope->owner != self)
        Py_RETURN_NONE;
    if (state && last) {
        if (note(self, line, key_of(scope, last)) < 0)
            return NULL;
        if (line->head == state)
            line->head = last;
    } else if (state && state == conversation->opening && line->head == state)
        conversation->failed = 1;
    if (number == 3 && PyUnicode_GET_LENGTH(given[2])) {
        line->response = response_of(given[2]);
        if (line->response < 0 || note(self, line, response_key(scope, line->response)) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static PyObject *stitcher_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *known[] = {"conversations", "hashes", "hashes_per_conversation", "vias", NULL};
    Py_ssize_t conversations, hashes, each;
    PyObject *vias;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "nnnO!", known, &conversations, &hashes, &each,
                                     &PyTuple_Type, &vias))
        return NULL;
    if (PyTuple_GET_SIZE(vias) != VIAS) {
        PyErr_SetString(PyExc_ValueError, "vias are all members of Via");
        return NULL;
    }
    PyObject *secret = PyUnicode_FromString("stitching"); /* Hashed by what only this process knows. */
    if (secret == NULL)
        return NULL;
    Py_hash_t seed = PyObject_Hash(secret);
    Py_DECREF(secret);
    PyObject *scopes = PyDict_New();
    Stitcher *self = scopes == NULL ? NULL : (Stitcher *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(scopes);
        return NULL;
    }
    self->most_conversations = conversations;
    self->most_hashes = hashes;
    self->most_each = each;
    self->scopes = scopes;
    self->index.seed = (uint64_t)seed;
    self->vias = Py_NewRef(vias);
    return (PyObject *)self;
}

static void stitcher_free(Stitcher *self)
{
    forget_all(self);
    Py_DECREF(self->scopes);
    Py_DECREF(self->vias);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef stitcher_methods[] = {
    {"place", (PyCFunction)(void (*)(void))stitcher_place, METH_FASTCALL | METH_KEYWORDS, SIGNATURE},
    {"settle", (PyCFunction)(void (*)(void))stitcher_settle, METH_FASTCALL,
     "settle(placement, last_message_hash: int, response_id: str = \"\") -> None"},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stitcher_members[] = {
    {"conversations", T_PYSSIZET, offsetof(Stitcher, conversations), READONLY, "How many are remembered."},
    {"hashes", T_PYSSIZET, offsetof(Stitcher, hashes), READONLY, "How many are remembered."},
    {"forgotten", T_PYSSIZET, offsetof(Stitcher, forgotten), READONLY,
     "Conversations that were dropped to stay within the limits."},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *stitcher_scopes(Stitcher *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(PyDict_GET_SIZE(self->scopes));
}

static PyGetSetDef stitcher_parts[] = {
    {"scopes", (getter)stitcher_scopes, NULL, "How many conversations are remembered of.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject stitcher_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sidecar.native.Stitcher",
    .tp_basicsize = sizeof(Stitcher),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Stitcher(conversations: int, hashes: int, hashes_per_conversation: int, vias: tuple)\n\n"
              "Places calls in conversations. For one thread.",
    .tp_new = stitcher_new,
    .tp_dealloc = (destructor)stitcher_free,
    .tp_methods = stitcher_methods,
    .tp_members = stitcher_members,
    .tp_getset = stitcher_parts,
};

/* Once, before any stitcher is made. */
int stitching_init(PyObject *module)
{
    PyTypeObject *types[] = {&scope_type, &conversation_type, &branch_type, &sharing_type, &placement_type};
    for (size_t place = 0; place < Py_ARRAY_LENGTH(types); place++)
        if (PyType_Ready(types[place]) < 0)
            return -1;
    for (int argument = 0; argument < ARGUMENTS; argument++)
        if ((names[argument] = PyUnicode_InternFromString(argument_names[argument])) == NULL)
            return -1;
    return PyModule_AddType(module, &stitcher_type);
}
