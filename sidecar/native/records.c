/* The record of an ordinary call, one that was tried once: the twin of record_of in sidecar/records.py.

   Nearly all of it stands in objects with slots, whose places are looked up once; those of classes that were
   compiled ahead have none, and are asked by name. What is out of the ordinary (several attempts, content that was captured, an answer that may be reused, a call that was never
   read) is left to the twin. */
#include "native.h"

enum source { CALL, REQUEST, ROUTE, FACTS, REPLY, ATTEMPT, QUOTE, USAGE, SLOTTED, CALLER, MADE };
/* What is worked out, in the order in which it is kept while a record is made. */
enum made {
    DURATION, FIRST, OVERHEAD, NOTHING_AVOIDED, REQUEST_BYTES, RESPONSE_BYTES, STATUS, CHUNKS, SERVER, PORT,
    USER_AGENT, RESPONSE_ATTRIBUTES, NO_CONTENT, ATTEMPTS, MADE_COUNT
};
enum tried { NUMBER, TOOK, FIRST_OF_TRY, NO_GPU, NO_ENERGY, TRIED_COUNT };

struct field {
    enum source source;
    const char *name; /* of the attribute; NULL for what stands at a number */
    Py_ssize_t at;    /* the place of its slot, or that number */
    PyObject *key;    /* its name where it has no slot */
};

#define SLOT(source, name) {source, #name, 0, NULL}
#define NUMBERED(source, at) {source, NULL, at, NULL}

static struct field of_a_call[] = {
    SLOT(CALL, call_id), SLOT(CALL, started_at_us), NUMBERED(MADE, DURATION), NUMBERED(MADE, FIRST),
    NUMBERED(CALLER, 0), NUMBERED(CALLER, 1), NUMBERED(CALLER, 2), NUMBERED(CALLER, 3), NUMBERED(CALLER, 4),
    NUMBERED(CALLER, 5), NUMBERED(CALLER, 6), NUMBERED(CALLER, 7), NUMBERED(CALLER, 8),
    SLOT(CALL, trace_id), SLOT(CALL, span_id), SLOT(CALL, parent_span_id), SLOT(CALL, gen_ai_span_id),
    SLOT(CALL, api), SLOT(FACTS, stream), SLOT(FACTS, model), SLOT(REPLY, response_model),
    SLOT(ATTEMPT, provider), SLOT(ATTEMPT, upstream), SLOT(CALL, outcome), SLOT(CALL, outcome_reason),
    NUMBERED(MADE, STATUS), SLOT(CALL, error_type), SLOT(CALL, cache), SLOT(CALL, downgraded_from),
    SLOT(USAGE, input_tokens), SLOT(USAGE, output_tokens), SLOT(USAGE, cache_read_input_tokens),
    SLOT(USAGE, cache_write_input_tokens), SLOT(USAGE, cache_write_1h_input_tokens),
    SLOT(USAGE, reasoning_output_tokens), SLOT(USAGE, audio_input_tokens), SLOT(USAGE, audio_output_tokens),
    SLOT(ATTEMPT, grade), SLOT(ATTEMPT, price_grade), SLOT(ATTEMPT, price_version), SLOT(ATTEMPT, list_pico),
    SLOT(ATTEMPT, cost_pico), NUMBERED(MADE, NOTHING_AVOIDED), SLOT(REPLY, provider_cost_pico),
    NUMBERED(MADE, OVERHEAD), SLOT(REPLY, response_id), SLOT(REPLY, finish_reasons), SLOT(REPLY, tool_names),
    NUMBERED(MADE, REQUEST_BYTES), NUMBERED(MADE, RESPONSE_BYTES), NUMBERED(MADE, CHUNKS),
    SLOT(ROUTE, template), NUMBERED(MADE, SERVER), NUMBERED(MADE, PORT), SLOT(REQUEST, client_address),
    NUMBERED(MADE, USER_AGENT), SLOT(FACTS, attributes), NUMBERED(MADE, RESPONSE_ATTRIBUTES),
    SLOT(FACTS, message_hashes), SLOT(REPLY, last_message_hash), NUMBERED(MADE, NO_CONTENT),
    NUMBERED(MADE, ATTEMPTS), SLOT(REPLY, tool_call_hashes), SLOT(FACTS, input_role), SLOT(FACTS, input_hash),
    SLOT(FACTS, tool_errors), SLOT(FACTS, tools_hash), SLOT(FACTS, system_hash),
    SLOT(USAGE, image_input_tokens), SLOT(USAGE, image_output_tokens), SLOT(QUOTE, region),
    SLOT(ATTEMPT, charges),
};

static struct field of_an_attempt[] = {
    NUMBERED(MADE, NUMBER), SLOT(ATTEMPT, upstream), SLOT(ATTEMPT, replica), SLOT(ATTEMPT, provider),
    SLOT(ATTEMPT, model), SLOT(ATTEMPT, span_id), SLOT(ATTEMPT, started_at_us), NUMBERED(MADE, TOOK),
    NUMBERED(MADE, FIRST_OF_TRY), SLOT(ATTEMPT, status), SLOT(ATTEMPT, error_type),
    SLOT(USAGE, input_tokens), SLOT(USAGE, output_tokens), SLOT(USAGE, cache_read_input_tokens),
    SLOT(USAGE, cache_write_input_tokens), SLOT(USAGE, cache_write_1h_input_tokens),
    SLOT(USAGE, reasoning_output_tokens), SLOT(ATTEMPT, grade), SLOT(ATTEMPT, price_grade),
    SLOT(ATTEMPT, price_version), SLOT(ATTEMPT, list_pico), SLOT(ATTEMPT, cost_pico),
    NUMBERED(MADE, NO_GPU), NUMBERED(MADE, NO_ENERGY), SLOT(QUOTE, region), SLOT(ATTEMPT, charges),
};

#define COUNT(table) ((Py_ssize_t)(sizeof(table) / sizeof(table)[0]))
#define CAPTURE 10 /* place in a Caller of whether it is captured */

/* Slots that are looked at, besides those that are copied. */
enum looked {
    CALL_REQUEST, CALL_ROUTE, CALL_FACTS, CALL_REPLY, CALL_CALLER, CALL_ATTEMPTS, CALL_REUSE, CALL_STARTED,
    CALL_PAUSED, REQUEST_BODY, REQUEST_FIELDS, FACTS_STREAM, REPLY_CHUNKS, REPLY_TIER, REPLY_FINGERPRINT,
    TRY_QUOTE, TRY_USAGE, TRY_REPLICA, TRY_STARTED, TRY_SENT, TRY_ENDED, TRY_FIRST, LOOKED_COUNT
};
static struct field looked[] = {
    SLOT(CALL, request), SLOT(CALL, route), SLOT(CALL, facts), SLOT(CALL, reply_facts), SLOT(CALL, caller),
    SLOT(CALL, attempts), SLOT(CALL, reuse), SLOT(CALL, started_ns), SLOT(CALL, paused_ns),
    SLOT(REQUEST, body), SLOT(REQUEST, fields), SLOT(FACTS, stream), SLOT(REPLY, chunks),
    SLOT(REPLY, service_tier), SLOT(REPLY, system_fingerprint), SLOT(ATTEMPT, quote), SLOT(ATTEMPT, usage),
    SLOT(ATTEMPT, replica), SLOT(ATTEMPT, started_ns), SLOT(ATTEMPT, sent_ns), SLOT(ATTEMPT, ended_ns),
    SLOT(ATTEMPT, first_chunk_ns),
};

static PyTypeObject *record_type, *attempt_type, *types[SLOTTED];
static PyObject *address_of, *user_agent_name, *tier_name, *fingerprint_name, *zero, *one;
static PyObject *last_replica, *last_address; /* calls one after the other mostly go to one server */

static int resolve(struct field *table, Py_ssize_t count)
{
    for (struct field *field = table; field < table + count; field++) {
        if (field->name == NULL)
            continue;
        Py_CLEAR(field->key);
        if ((field->at = place_of((PyObject *)types[field->source], field->name)) >= 0)
            continue;
        /* A class compiled ahead has another kind of descriptor there. */
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            return -1;
        PyErr_Clear();
        if ((field->key = PyUnicode_InternFromString(field->name)) == NULL)
            return -1;
    }
    return 0;
}

/* What `field` of `object` holds. */
static PyObject *value_of(PyObject *object, const struct field *field)
{
    if (field->key != NULL)
        return PyObject_GetAttr(object, field->key);
    PyObject *value = *(PyObject **)((char *)object + field->at);
    if (value == NULL)
        PyErr_SetString(PyExc_AttributeError, field->name);
    return Py_XNewRef(value);
}

/* What was looked at of the objects that a record is made of. */
typedef PyObject *Held[LOOKED_COUNT];

static int look(Held held, PyObject *object, enum looked first, enum looked last)
{
    for (int place = first; place <= (int)last; place++)
        if ((held[place] = value_of(object, &looked[place])) == NULL)
            return -1;
    return 0;
}

/* records_of(types: (CallRecord, AttemptRecord, Call, Request, Route, RequestFacts, ReplyFacts, Attempt, Quote,
   Usage), address_of) -> None: what `record` is made of from now on */
PyObject *records_of(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyTuple_Check(given[0]) || PyTuple_GET_SIZE(given[0]) != SLOTTED + 2) {
        PyErr_SetString(PyExc_TypeError, "records_of(types: tuple, address_of)");
        return NULL;
    }
    for (Py_ssize_t place = 0; place < SLOTTED + 2; place++) {
        PyObject *type = PyTuple_GET_ITEM(given[0], place);
        if (!PyType_Check(type)) {
            PyErr_SetString(PyExc_TypeError, "a type is wanted");
            return NULL;
        }
        PyTypeObject **kept = place == 0 ? &record_type : place == 1 ? &attempt_type : &types[place - 2];
        Py_XSETREF(*kept, (PyTypeObject *)Py_NewRef(type));
    }
    if (resolve(of_a_call, COUNT(of_a_call)) < 0 || resolve(of_an_attempt, COUNT(of_an_attempt)) < 0 ||
        resolve(looked, COUNT(looked)) < 0)
        return NULL;
    Py_XSETREF(address_of, Py_NewRef(given[1]));
    if (user_agent_name == NULL && ((user_agent_name = PyBytes_FromString("user-agent")) == NULL ||
                                    (tier_name = PyUnicode_InternFromString("service_tier")) == NULL ||
                                    (fingerprint_name = PyUnicode_InternFromString("system_fingerprint")) == NULL ||
                                    (zero = PyLong_FromLong(0)) == NULL || (one = PyLong_FromLong(1)) == NULL))
        return NULL;
    Py_RETURN_NONE;
}

static int is_a(PyObject *object, enum source source)
{
    return object != NULL && Py_IS_TYPE(object, types[source]);
}

static PyObject *response_attributes(PyObject *tier, PyObject *fingerprint)
{
    PyObject *found = PyDict_New();
    if (found != NULL && ((PyUnicode_GET_LENGTH(tier) && PyDict_SetItem(found, tier_name, tier) < 0) ||
                          (PyUnicode_GET_LENGTH(fingerprint) &&
                           PyDict_SetItem(found, fingerprint_name, fingerprint) < 0)))
        Py_CLEAR(found);
    return found;
}

static PyObject *user_agent_of(PyObject *fields)
{
    PyObject *value = PyDict_GetItemWithError(fields, user_agent_name);
    if (value == NULL)
        return PyErr_Occurred() ? NULL : PyUnicode_New(0, 0);
    Py_ssize_t size = PyBytes_GET_SIZE(value);
    return PyUnicode_DecodeLatin1(PyBytes_AS_STRING(value), size < 200 ? size : 200, NULL);
}

/* Host and port of a server, borrowed; -1 with an exception. */
static int address(PyObject *replica, PyObject **server, PyObject **port)
{
    if (replica != last_replica) {
        PyObject *found = PyObject_CallOneArg(address_of, replica);
        if (found == NULL)
            return -1;
        if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) != 2) {
            Py_DECREF(found);
            PyErr_SetString(PyExc_TypeError, "an address is a host and a port");
            return -1;
        }
        Py_XSETREF(last_replica, Py_NewRef(replica));
        Py_XSETREF(last_address, found);
    }
    *server = PyTuple_GET_ITEM(last_address, 0);
    *port = PyTuple_GET_ITEM(last_address, 1);
    return 0;
}

/* The named tuple of `type` that `table` describes. */
static PyObject *gathered(PyTypeObject *type, const struct field *table, Py_ssize_t count, PyObject **sources,
                          PyObject *caller, PyObject **made)
{
    PyObject *record = type->tp_alloc(type, count);
    if (record == NULL)
        return NULL;
    for (Py_ssize_t place = 0; place < count; place++) {
        const struct field *field = &table[place];
        PyObject *value;
        if (field->source < SLOTTED)
            value = value_of(sources[field->source], field);
        else
            value = Py_NewRef(field->source == CALLER ? PyTuple_GET_ITEM(caller, field->at) : made[field->at]);
        if (value == NULL) {
            Py_DECREF(record);
            return NULL;
        }
        PyTuple_SET_ITEM(record, place, value);
    }
    PyObject_GC_UnTrack(record); /* nothing in it leads back to it */
    return record;
}

/* The record of a call of which `held` is known so far; None of one that is out of the ordinary. */
static PyObject *recorded(PyObject *call, PyObject *status, PyObject *response_bytes, int64_t now, Held held)
{
    if (look(held, call, CALL_REQUEST, CALL_PAUSED) < 0)
        return NULL;
    PyObject *sources[SLOTTED] = {NULL}, *caller = held[CALL_CALLER], *attempts = held[CALL_ATTEMPTS];
    sources[CALL] = call;
    sources[REQUEST] = held[CALL_REQUEST];
    sources[ROUTE] = held[CALL_ROUTE];
    sources[FACTS] = held[CALL_FACTS];
    sources[REPLY] = held[CALL_REPLY];
    for (enum source source = REQUEST; source <= REPLY; source++)
        if (!is_a(sources[source], source))
            Py_RETURN_NONE;
    if (held[CALL_REUSE] != Py_None || !PyList_CheckExact(attempts) || PyList_GET_SIZE(attempts) != 1 ||
        !PyTuple_Check(caller) || PyTuple_GET_SIZE(caller) <= CAPTURE ||
        PyTuple_GET_ITEM(caller, CAPTURE) != Py_False)
        Py_RETURN_NONE;
    PyObject *attempt = sources[ATTEMPT] = PyList_GET_ITEM(attempts, 0);
    if (!is_a(attempt, ATTEMPT))
        Py_RETURN_NONE;
    if (look(held, sources[REQUEST], REQUEST_BODY, REQUEST_FIELDS) < 0 ||
        look(held, sources[FACTS], FACTS_STREAM, FACTS_STREAM) < 0 ||
        look(held, sources[REPLY], REPLY_CHUNKS, REPLY_FINGERPRINT) < 0 ||
        look(held, attempt, TRY_QUOTE, TRY_FIRST) < 0)
        return NULL;
    sources[QUOTE] = held[TRY_QUOTE];
    sources[USAGE] = held[TRY_USAGE];
    PyObject *fields = held[REQUEST_FIELDS], *body = held[REQUEST_BODY];
    if (!PyDict_CheckExact(fields) || !PyBytes_Check(body) || !is_a(sources[QUOTE], QUOTE) ||
        !is_a(sources[USAGE], USAGE) || !PyUnicode_Check(held[REPLY_TIER]) ||
        !PyUnicode_Check(held[REPLY_FINGERPRINT]))
        Py_RETURN_NONE;

    int64_t began = PyLong_AsLongLong(held[CALL_STARTED]), waited = PyLong_AsLongLong(held[CALL_PAUSED]);
    int64_t started = PyLong_AsLongLong(held[TRY_STARTED]), sent = PyLong_AsLongLong(held[TRY_SENT]);
    int64_t ended = PyLong_AsLongLong(held[TRY_ENDED]), first = PyLong_AsLongLong(held[TRY_FIRST]);
    if (PyErr_Occurred())
        return NULL;
    if (sent)
        waited += ended - sent;
    int64_t took = now - began, ours = took > waited ? took - waited : 0;
    if (took < 0 || ended < started || (first && (first < began || first < started)))
        Py_RETURN_NONE; /* clocks that went backwards: the twin rounds below zero its own way */

    PyObject *tried[TRIED_COUNT] = {one, NULL, NULL, Py_None, Py_None}, *made[MADE_COUNT] = {NULL}, *done = NULL;
    tried[TOOK] = PyLong_FromLongLong((ended - started) / 1000);
    tried[FIRST_OF_TRY] = first ? PyLong_FromLongLong((first - started) / 1000) : Py_NewRef(Py_None);
    made[DURATION] = PyLong_FromLongLong(took / 1000);
    made[FIRST] = first ? PyLong_FromLongLong((first - began) / 1000) : Py_NewRef(Py_None);
    made[OVERHEAD] = PyLong_FromLongLong(ours / 1000);
    made[REQUEST_BYTES] = PyLong_FromSsize_t(PyBytes_GET_SIZE(body));
    made[USER_AGENT] = user_agent_of(fields);
    made[RESPONSE_ATTRIBUTES] = response_attributes(held[REPLY_TIER], held[REPLY_FINGERPRINT]);
    made[ATTEMPTS] = PyTuple_New(1);
    int whole = tried[TOOK] && tried[FIRST_OF_TRY] && made[DURATION] && made[FIRST] && made[OVERHEAD] &&
                made[REQUEST_BYTES] && made[USER_AGENT] && made[RESPONSE_ATTRIBUTES] && made[ATTEMPTS] &&
                address(held[TRY_REPLICA], &made[SERVER], &made[PORT]) == 0;
    if (whole) {
        PyObject *of_try = gathered(attempt_type, of_an_attempt, COUNT(of_an_attempt), sources, caller, tried);
        if (of_try != NULL) {
            PyTuple_SET_ITEM(made[ATTEMPTS], 0, of_try);
            made[NOTHING_AVOIDED] = zero;
            made[NO_CONTENT] = Py_None;
            made[STATUS] = status;
            made[RESPONSE_BYTES] = response_bytes;
            made[CHUNKS] = held[FACTS_STREAM] == Py_True ? held[REPLY_CHUNKS] : zero;
            done = gathered(record_type, of_a_call, COUNT(of_a_call), sources, caller, made);
        }
    }
    Py_XDECREF(tried[TOOK]);
    Py_XDECREF(tried[FIRST_OF_TRY]);
    Py_XDECREF(made[DURATION]);
    Py_XDECREF(made[FIRST]);
    Py_XDECREF(made[OVERHEAD]);
    Py_XDECREF(made[REQUEST_BYTES]);
    Py_XDECREF(made[USER_AGENT]);
    Py_XDECREF(made[RESPONSE_ATTRIBUTES]);
    Py_XDECREF(made[ATTEMPTS]);
    return done;
}

/* record(call, status, response_bytes, now_ns) -> CallRecord | None */
PyObject *record(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 4 || record_type == NULL || !is_a(given[0], CALL) || !PyLong_Check(given[3])) {
        PyErr_SetString(PyExc_TypeError, "record(call: Call, status: int, response_bytes: int, now_ns: int)");
        return NULL;
    }
    Held held = {NULL};
    PyObject *done = recorded(given[0], given[1], given[2], PyLong_AsLongLong(given[3]), held);
    for (int place = 0; place < LOOKED_COUNT; place++)
        Py_XDECREF(held[place]);
    return done;
}
