/* Claims and charges of one call on counters in memory: the ordinary ones of sidecar/budgets/ledger.py.

   The accounts are Python's, with slots, whose places are looked up once. What is out of the ordinary (a
   rolling window, another limit, no room, large or negative amounts, a counter nobody knows) changes nothing
   here, and is left to the twin. */
#include "native.h"

#define MOST 64 /* claims of one call */
#define LIMIT 5 /* place of the limit in a counter; its first IDENTITY fields name it */
#define IDENTITY 4
#define LARGE ((int64_t)1 << 61) /* sums of amounts below it do not overflow */

static PyTypeObject *account_type;
static Py_ssize_t counter_at, spent_at, held_at, buckets_at, touched_at;

#define FIELD(account, at) (*(PyObject **)((char *)(account) + (at)))

/* credit_of(account: type) -> None: the type whose slots are read from now on */
PyObject *credit_of(PyObject *Py_UNUSED(module), PyObject *type)
{
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "a type is wanted");
        return NULL;
    }
    if ((counter_at = place_of(type, "counter")) < 0 || (spent_at = place_of(type, "spent")) < 0 ||
        (held_at = place_of(type, "held")) < 0 || (buckets_at = place_of(type, "buckets")) < 0 ||
        (touched_at = place_of(type, "touched")) < 0)
        return NULL;
    Py_XSETREF(account_type, (PyTypeObject *)Py_NewRef(type));
    Py_RETURN_NONE;
}

/* A whole number of ordinary size; 0 where it is none. */
static int ordinary(PyObject *number, int64_t *value)
{
    int beyond = 0;
    if (number == NULL || !PyLong_CheckExact(number))
        return 0;
    *value = PyLong_AsLongLongAndOverflow(number, &beyond);
    return !beyond && *value < LARGE && *value > -LARGE;
}

/* The counter and the amount of a claim; 0 where it is no ordinary one. */
static int claim_parts(PyObject *claim, PyObject **counter, int64_t *amount)
{
    if (!PyTuple_Check(claim) || PyTuple_GET_SIZE(claim) != 2)
        return 0;
    *counter = PyTuple_GET_ITEM(claim, 0);
    return PyTuple_Check(*counter) && PyTuple_GET_SIZE(*counter) > LIMIT &&
           ordinary(PyTuple_GET_ITEM(claim, 1), amount) && *amount >= 0;
}

static int plain_account(PyObject *account, PyObject *counter)
{
    return Py_IS_TYPE(account, account_type) && FIELD(account, counter_at) == counter &&
           FIELD(account, buckets_at) == Py_None;
}

static int add_to(PyObject *account, Py_ssize_t at, int64_t value)
{
    PyObject *number = PyLong_FromLongLong(value);
    if (number == NULL)
        return -1;
    Py_XSETREF(FIELD(account, at), number);
    return 0;
}

/* claimed(accounts: dict, claims: tuple) -> (dict[Account, (amount, 0)], rooms) | None */
PyObject *claimed(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyDict_Check(given[0]) || account_type == NULL) {
        PyErr_SetString(PyExc_TypeError, "claimed(accounts: dict, claims: tuple)");
        return NULL;
    }
    PyObject *claims = given[1];
    if (!PyTuple_CheckExact(claims) || PyTuple_GET_SIZE(claims) > MOST)
        Py_RETURN_NONE;
    Py_ssize_t count = PyTuple_GET_SIZE(claims);
    PyObject *found[MOST];
    int64_t held[MOST];
    PyObject *taken = PyDict_New(), *rooms = PyTuple_New(count), *zero = PyLong_FromLong(0);
    if (taken == NULL || rooms == NULL || zero == NULL)
        goto failed;
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *counter;
        int64_t amount, limit, spent;
        if (!claim_parts(PyTuple_GET_ITEM(claims, place), &counter, &amount) ||
            !ordinary(PyTuple_GET_ITEM(counter, LIMIT), &limit))
            goto twin;
        PyObject *identity = PyTuple_GetSlice(counter, 0, IDENTITY);
        if (identity == NULL)
            goto failed;
        PyObject *account = PyDict_GetItemWithError(given[0], identity);
        Py_DECREF(identity);
        if (account == NULL) {
            if (PyErr_Occurred())
                goto failed;
            goto twin;
        }
        if (!plain_account(account, counter) || !ordinary(FIELD(account, spent_at), &spent) ||
            !ordinary(FIELD(account, held_at), &held[place]))
            goto twin;
        if (limit - spent < held[place] + amount)
            goto twin;
        PyObject *room = PyLong_FromLongLong(limit - spent - held[place] - amount);
        if (room == NULL)
            goto failed;
        PyTuple_SET_ITEM(rooms, place, room);
        PyObject *hold = PyTuple_Pack(2, PyTuple_GET_ITEM(PyTuple_GET_ITEM(claims, place), 1), zero);
        if (hold == NULL)
            goto failed;
        int added = PyDict_SetItem(taken, account, hold);
        Py_DECREF(hold);
        if (added < 0)
            goto failed;
        found[place] = account;
        held[place] += amount;
    }
    if (PyDict_GET_SIZE(taken) != count)
        goto twin; /* one counter twice */
    for (Py_ssize_t place = 0; place < count; place++) {
        if (add_to(found[place], held_at, held[place]) < 0)
            goto failed;
        Py_XSETREF(FIELD(found[place], touched_at), Py_NewRef(Py_True));
    }
    Py_DECREF(zero);
    PyObject *both = PyTuple_Pack(2, taken, rooms);
    Py_DECREF(taken);
    Py_DECREF(rooms);
    return both;
twin:
    Py_DECREF(taken);
    Py_DECREF(rooms);
    Py_DECREF(zero);
    Py_RETURN_NONE;
failed:
    Py_XDECREF(taken);
    Py_XDECREF(rooms);
    Py_XDECREF(zero);
    return NULL;
}

/* charged(holds: dict[Account, (amount, 0)], actuals: list) -> bool: whether all was done here, or nothing */
PyObject *charged(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t number)
{
    if (number != 2 || !PyDict_Check(given[0]) || account_type == NULL) {
        PyErr_SetString(PyExc_TypeError, "charged(holds: dict, actuals: list)");
        return NULL;
    }
    PyObject *actuals = given[1];
    if (!PyList_CheckExact(actuals) || PyList_GET_SIZE(actuals) > MOST ||
        PyList_GET_SIZE(actuals) != PyDict_GET_SIZE(given[0]))
        Py_RETURN_FALSE;
    PyObject *found[MOST], *account, *hold;
    int64_t held[MOST], spent[MOST];
    Py_ssize_t at = 0, count = 0;
    while (PyDict_Next(given[0], &at, &account, &hold)) {
        PyObject *counter;
        int64_t amount, charge;
        if (!claim_parts(PyList_GET_ITEM(actuals, count), &counter, &charge) ||
            !plain_account(account, counter) || !PyTuple_CheckExact(hold) || PyTuple_GET_SIZE(hold) != 2 ||
            !ordinary(PyTuple_GET_ITEM(hold, 0), &amount) || !ordinary(FIELD(account, held_at), &held[count]) ||
            !ordinary(FIELD(account, spent_at), &spent[count]))
            Py_RETURN_FALSE;
        held[count] -= amount;
        spent[count] += charge;
        found[count++] = account;
    }
    for (Py_ssize_t place = 0; place < count; place++)
        if (add_to(found[place], held_at, held[place]) < 0 || add_to(found[place], spent_at, spent[place]) < 0)
            return NULL;
    Py_RETURN_TRUE;
}
