/* What a stitcher remembers, as Stitcher of collector/domain/stitching.py does it, and how it forgets.

   A scope and its conversations refer to each other; what parts them is that a conversation is forgotten. */
#include "stitching.h"
#include <string.h>

/* ---- the index ---- */

#define FEWEST_SLOTS 64

static size_t place_in(const Index *index, Key key)
{
    uint64_t mixed = (uint64_t)key.number + index->seed + key.realm * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (size_t)(mixed ^ mixed >> 31) & index->mask;
}

/* Where a key is, or would be; there is always a free slot. */
static Slot *slot_of(const Index *index, Key key)
{
    size_t at = place_in(index, key);
    while (index->slots[at].whose != NULL &&
           (index->slots[at].key.number != key.number || index->slots[at].key.realm != key.realm))
        at = (at + 1) & index->mask;
    return &index->slots[at];
}

/* Whose a key is: borrowed, NULL for nobody's. */
PyObject *whose(const Index *index, Key key)
{
    return index->used ? slot_of(index, key)->whose : NULL;
}

/* Room for one more. */
static int make_room(Index *index)
{
    if (index->slots != NULL && (index->used + 1) * 4 <= (index->mask + 1) * 3)
        return 0;
    Index wider = *index;
    wider.mask = index->slots == NULL ? FEWEST_SLOTS - 1 : index->mask * 2 + 1;
    wider.slots = PyMem_Calloc(wider.mask + 1, sizeof(Slot));
    if (wider.slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (index->slots != NULL)
        for (size_t at = 0; at <= index->mask; at++)
            if (index->slots[at].whose != NULL)
                *slot_of(&wider, index->slots[at].key) = index->slots[at];
    PyMem_Free(index->slots);
    *index = wider;
    return 0;
}

/* Free a slot; those behind it that were put there for want of it move up. */
static void vacate(Index *index, Slot *slot)
{
    PyObject *left = slot->whose;
    size_t gap = (size_t)(slot - index->slots);
    for (size_t at = (gap + 1) & index->mask; index->slots[at].whose != NULL; at = (at + 1) & index->mask)
        if (((at - place_in(index, index->slots[at].key)) & index->mask) >= ((at - gap) & index->mask)) {
            index->slots[gap] = index->slots[at];
            gap = at;
        }
    index->slots[gap].whose = NULL;
    index->used--;
    Py_DECREF(left);
}

/* ---- scopes, conversations and their branches ---- */

Scope *scope_named(Stitcher *self, PyObject *name)
{
    Scope *scope = (Scope *)PyDict_GetItemWithError(self->scopes, name);
    if (scope != NULL || PyErr_Occurred())
        return (Scope *)Py_XNewRef(scope);
    scope = PyObject_New(Scope, &scope_type);
    if (scope == NULL)
        return NULL;
    scope->owner = self;
    scope->name = Py_NewRef(name);
    scope->runs = NULL;
    scope->serial = self->serial++;
    scope->by_id = PyDict_New();
    if (scope->by_id == NULL || PyDict_SetItem(self->scopes, name, (PyObject *)scope) < 0)
        Py_CLEAR(scope);
    return scope;
}

static void scope_free(Scope *self)
{
    Py_DECREF(self->name);
    Py_XDECREF(self->by_id);
    Py_XDECREF(self->runs);
    PyObject_Free(self);
}

static void unlink_from(Stitcher *self, Conversation *conversation)
{
    *(conversation->earlier == NULL ? &self->oldest : &conversation->earlier->later) = conversation->later;
    *(conversation->later == NULL ? &self->newest : &conversation->later->earlier) = conversation->earlier;
}

static void link_last(Stitcher *self, Conversation *conversation)
{
    conversation->earlier = self->newest;
    conversation->later = NULL;
    *(self->newest == NULL ? &self->oldest : &self->newest->later) = conversation;
    self->newest = conversation;
}

void heard_of(Stitcher *self, Conversation *conversation)
{
    if (self->newest == conversation)
        return;
    unlink_from(self, conversation);
    link_last(self, conversation);
}

/* A new reference; another is that of the list of those that are remembered. */
Conversation *begin(Stitcher *self, Scope *scope, PyObject *id, int64_t opening)
{
    Conversation *conversation = PyObject_New(Conversation, &conversation_type);
    if (conversation == NULL)
        return NULL;
    conversation->scope = (Scope *)Py_NewRef(scope);
    conversation->id = Py_NewRef(id);
    conversation->run = NULL;
    conversation->opening = opening;
    conversation->branches = 0;
    conversation->kept = NULL;
    conversation->count = conversation->room = 0;
    conversation->failed = conversation->remembered = 0;
    if (PyDict_SetItem(scope->by_id, id, (PyObject *)conversation) < 0) {
        Py_DECREF(conversation);
        return NULL;
    }
    conversation->remembered = 1;
    link_last(self, (Conversation *)Py_NewRef(conversation));
    self->conversations++;
    return conversation;
}

static void conversation_free(Conversation *self)
{
    Py_DECREF(self->scope);
    Py_DECREF(self->id);
    Py_XDECREF(self->run);
    PyMem_Free(self->kept);
    PyObject_Free(self);
}

/* A new line of a conversation. */
Branch *branch_of(Conversation *conversation)
{
    Branch *line = PyObject_New(Branch, &branch_type);
    if (line == NULL)
        return NULL;
    line->conversation = (Conversation *)Py_NewRef(conversation);
    line->number = conversation->branches++;
    line->head = line->tail = 0;
    line->response = -1;
    return line;
}

static void branch_free(Branch *self)
{
    Py_DECREF(self->conversation);
    PyObject_Free(self);
}

static void sharing_free(Sharing *self)
{
    while (self->count)
        Py_DECREF(self->lines[--self->count]);
    PyObject_Free(self);
}

/* ---- remembering ---- */

/* The place of a conversation's line; -1 where it has none. */
static int line_in(const Sharing *sharing, const Conversation *conversation)
{
    for (int place = 0; place < sharing->count; place++)
        if (sharing->lines[place]->conversation == conversation)
            return place;
    return -1;
}

static void leave(Sharing *sharing, int place)
{
    Branch *left = sharing->lines[place];
    sharing->count--;
    for (; place < sharing->count; place++)
        sharing->lines[place] = sharing->lines[place + 1];
    Py_DECREF(left);
}

static void join(Sharing *sharing, Branch *line)
{
    if (sharing->count == MOST_SHARING)
        leave(sharing, 0);
    sharing->lines[sharing->count++] = (Branch *)Py_NewRef(line);
}

static Sharing *shared_by(Branch *first, Branch *second)
{
    Sharing *sharing = PyObject_New(Sharing, &sharing_type);
    if (sharing == NULL)
        return NULL;
    sharing->count = 0;
    join(sharing, first);
    join(sharing, second);
    return sharing;
}

static int make_room_in(Conversation *conversation)
{
    if (conversation->count < conversation->room)
        return 0;
    uint32_t room = conversation->room ? conversation->room * 2 : 2;
    Key *kept = PyMem_Realloc(conversation->kept, room * sizeof(Key));
    if (kept == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    conversation->kept = kept;
    conversation->room = room;
    return 0;
}

/* One of the hashes that a conversation keeps is let go. */
static void drop(Stitcher *self, Conversation *conversation, Key key)
{
    self->hashes--;
    if (!self->index.used)
        return;
    Slot *slot = slot_of(&self->index, key);
    if (slot->whose == NULL)
        return;
    if (!Py_IS_TYPE(slot->whose, &sharing_type)) {
        if (((Branch *)slot->whose)->conversation == conversation)
            vacate(&self->index, slot);
        return;
    }
    Sharing *sharing = (Sharing *)slot->whose;
    int place = line_in(sharing, conversation);
    if (place < 0)
        return;
    leave(sharing, place);
    if (!sharing->count)
        vacate(&self->index, slot);
}

/* Remember that a line had this; what can fail comes before what is changed. */
int note(Stitcher *self, Branch *line, Key key)
{
    Conversation *conversation = line->conversation;
    if (make_room_in(conversation) < 0 || make_room(&self->index) < 0)
        return -1;
    Slot *slot = slot_of(&self->index, key);
    if (slot->whose == NULL) {
        *slot = (Slot){.key = key, .whose = Py_NewRef(line)};
        self->index.used++;
    } else if (Py_IS_TYPE(slot->whose, &sharing_type)) {
        Sharing *sharing = (Sharing *)slot->whose;
        int place = line_in(sharing, conversation);
        if (place >= 0) {
            Py_INCREF(line); /* which may be the one that leaves */
            leave(sharing, place);
            join(sharing, line);
            Py_DECREF(line);
            return 0;
        }
        join(sharing, line);
    } else if (((Branch *)slot->whose)->conversation == conversation) {
        Py_SETREF(slot->whose, Py_NewRef(line));
        return 0;
    } else {
        Sharing *sharing = shared_by((Branch *)slot->whose, line);
        if (sharing == NULL)
            return -1;
        Py_SETREF(slot->whose, (PyObject *)sharing);
    }
    conversation->kept[conversation->count++] = key;
    self->hashes++;
    if ((Py_ssize_t)conversation->count > self->most_each) {
        Key oldest = conversation->kept[0];
        conversation->count--;
        memmove(conversation->kept, conversation->kept + 1, conversation->count * sizeof(Key));
        drop(self, conversation, oldest);
    }
    return 0;
}

/* ---- forgetting ---- */

/* The index and the names know no more of it. */
static int let_go(Stitcher *self, Conversation *conversation)
{
    Scope *scope = conversation->scope;
    for (uint32_t place = 0; place < conversation->count; place++)
        drop(self, conversation, conversation->kept[place]);
    conversation->count = 0;
    PyObject *named = PyDict_GetItemWithError(scope->by_id, conversation->id);
    if (named == NULL && PyErr_Occurred())
        return -1;
    if (named == (PyObject *)conversation && PyDict_DelItem(scope->by_id, conversation->id) < 0)
        return -1;
    if (conversation->run != NULL && PyDict_DelItem(scope->runs, conversation->run) < 0)
        return -1;
    if (PyDict_GET_SIZE(scope->by_id))
        return 0;
    PyObject *known = PyDict_GetItemWithError(self->scopes, scope->name);
    if (known == NULL && PyErr_Occurred())
        return -1;
    return known == (PyObject *)scope ? PyDict_DelItem(self->scopes, scope->name) : 0;
}

int forget(Stitcher *self, Conversation *spared)
{
    while (self->hashes > self->most_hashes || self->conversations > self->most_conversations) {
        Conversation *oldest = self->oldest;
        if (oldest == spared)
            return 0;
        unlink_from(self, oldest);
        oldest->remembered = 0;
        self->conversations--;
        self->forgotten++;
        int done = let_go(self, oldest);
        Py_DECREF(oldest);
        if (done < 0)
            return -1;
    }
    return 0;
}

void forget_all(Stitcher *self)
{
    while (self->oldest != NULL) {
        Conversation *oldest = self->oldest;
        unlink_from(self, oldest);
        oldest->remembered = 0;
        PyDict_Clear(oldest->scope->by_id);
        if (oldest->scope->runs != NULL)
            PyDict_Clear(oldest->scope->runs);
        Py_DECREF(oldest);
    }
    for (size_t at = 0; self->index.slots != NULL && at <= self->index.mask; at++)
        Py_XDECREF(self->index.slots[at].whose);
    PyMem_Free(self->index.slots);
    self->index.slots = NULL;
}

#define TYPE(variable, kind, free)                                                                                \
    PyTypeObject variable = {                                                                                    \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sidecar.native." #kind,                                        \
        .tp_basicsize = sizeof(kind),                                                                            \
        .tp_flags = Py_TPFLAGS_DEFAULT,                                                                          \
        .tp_dealloc = (destructor)free,                                                                          \
    }

TYPE(scope_type, Scope, scope_free);
TYPE(conversation_type, Conversation, conversation_free);
TYPE(branch_type, Branch, branch_free);
TYPE(sharing_type, Sharing, sharing_free);
