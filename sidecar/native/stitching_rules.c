/* From the hashes of a request to the line of a conversation that it goes on: collector/domain/stitching_rules.py,
   function by function, with the same results. */
#include "stitching.h"

#define MIN_EVIDENCE_BYTES 40
#define MOVED_MESSAGES 2
#define MOVED_BYTES 256
#define LOOKED_AT 16
#define OPENING 2
#define SHORT 4
#define ADVANCES 8 /* messages that a request may be ahead of a line that it takes further */

/* ---- evidence ---- */

/* Bytes of a message's text; its digest has lost the uppermost bit, and the shorter text is the one. */
static uint64_t text_length(uint64_t digest)
{
    uint64_t without = digest % WORD, with = (digest + BITS + 1) % WORD;
    return without < with ? without : with;
}

/* Whether a message is remembered by itself. */
int is_strong(uint64_t digest)
{
    return text_length(digest) >= STRONG_BYTES;
}

/* Whether the first `known` messages are more than an opening that anybody may have. */
static int enough(Hashes *hashes, Py_ssize_t known, Py_ssize_t shared_by_all)
{
    uint64_t total = 0;
    for (Py_ssize_t at = shared_by_all < known - 1 ? shared_by_all : known - 1; at < known; at++) {
        uint64_t length = text_length(digest_of(at ? hash_at(hashes, at - 1) : 0, hash_at(hashes, at)));
        /* A message without text is a tool call; its mark is the call's id. */
        total += length ? length : MIN_EVIDENCE_BYTES;
        if (total >= MIN_EVIDENCE_BYTES)
            return 1;
    }
    return 0;
}

static int may_join(const Branch *line, Hashes *hashes, Py_ssize_t known, Py_ssize_t shared_by_all)
{
    if (known <= OPENING && known < hashes->count && line->conversation->opening == hash_at(hashes, known - 1))
        return 0; /* Our reply is not what follows: it may be somebody else's run of the same opening. */
    return known > SHORT || enough(hashes, known, shared_by_all);
}

/* ---- lines; all of them borrowed, but for what is found in the end ---- */

/* The only line that stands at a state which several conversations have stood at. */
static Branch *still_there(const Sharing *lines, int64_t state)
{
    Branch *found = NULL;
    for (int place = 0; place < lines->count; place++)
        if (lines->lines[place]->head == state) {
            if (found != NULL)
                return NULL;
            found = lines->lines[place];
        }
    return found;
}

/* A conversation that a known request takes further, though it is another's request as well. */
static Branch *advancing(Stitcher *self, Scope *scope, Hashes *hashes, Py_ssize_t shared_by_all)
{
    Py_ssize_t last = hashes->count - 1;
    for (Py_ssize_t at = last - 1; at >= 0 && at >= last - ADVANCES; at--) {
        int64_t state = hash_at(hashes, at);
        PyObject *entry = whose(&self->index, key_of(scope, state));
        if (entry == NULL)
            continue;
        if (!Py_IS_TYPE(entry, &sharing_type))
            return NULL;
        Branch *line = still_there((Sharing *)entry, state);
        return line != NULL && may_join(line, hashes, at + 1, shared_by_all) ? line : NULL;
    }
    return NULL;
}

/* Whose a request is that one conversation has made before. */
static Branch *repeated(Hashes *hashes, PyObject *entry)
{
    if (Py_IS_TYPE(entry, &sharing_type))
        return NULL;
    Branch *line = (Branch *)entry;
    Conversation *conversation = line->conversation;
    /* The same opening again: a retry of a call that failed, else a conversation like it. */
    return conversation->opening != hash_at(hashes, hashes->count - 1) || conversation->failed ? line : NULL;
}

/* The one conversation whose longer messages stand at the end of a request. */
static Conversation *moved(Stitcher *self, Scope *scope, Hashes *hashes)
{
    Conversation *found = NULL;
    Py_ssize_t messages = 0, last = hashes->count - 1;
    uint64_t total = 0;
    for (Py_ssize_t at = last; at > 0 && at > last - LOOKED_AT; at--) {
        uint64_t digest = digest_of(hash_at(hashes, at - 1), hash_at(hashes, at));
        PyObject *entry = whose(&self->index, key_of(scope, (int64_t)~digest));
        if (entry == NULL || Py_IS_TYPE(entry, &sharing_type))
            continue;
        Conversation *conversation = ((Branch *)entry)->conversation;
        if (found != NULL && conversation != found)
            return NULL;
        found = conversation;
        messages++;
        total += text_length(digest);
    }
    return messages >= MOVED_MESSAGES && total >= MOVED_BYTES ? found : NULL;
}

/* The line, or a new branch where it has left the state: a reference of the caller's own. */
Branch *line_at(Branch *line, int64_t state)
{
    if (state == line->head || state == line->tail)
        return (Branch *)Py_NewRef(line);
    return branch_of(line->conversation);
}

/* The line that a response belongs to, and a new branch where others have answered it before. */
Found answering(Stitcher *self, Scope *scope, int64_t response)
{
    PyObject *entry = whose(&self->index, response_key(scope, response));
    if (entry == NULL || Py_IS_TYPE(entry, &sharing_type))
        return (Found){.via = NEW};
    Branch *line = (Branch *)entry;
    line = line->response == response ? (Branch *)Py_NewRef(line) : branch_of(line->conversation);
    return (Found){.line = line, .via = RESPONSE};
}

/* The line that a request goes on, why, and how many of its messages were known. */
Found lookup(Stitcher *self, Scope *scope, Hashes *hashes, Py_ssize_t shared_by_all)
{
    Py_ssize_t count = hashes->count;
    for (Py_ssize_t at = count - 1; at >= 0 && at >= count - PROBES; at--) {
        int64_t state = hash_at(hashes, at);
        PyObject *entry = whose(&self->index, key_of(scope, state));
        if (entry == NULL)
            continue;
        Py_ssize_t known = at + 1;
        Branch *line;
        if (known == count) {
            line = advancing(self, scope, hashes, shared_by_all);
            if (line != NULL)
                return (Found){.line = (Branch *)Py_NewRef(line), .via = REPLY, .shared = known};
            line = repeated(hashes, entry);
        } else
            line = Py_IS_TYPE(entry, &sharing_type) ? still_there((Sharing *)entry, state) : (Branch *)entry;
        if (line == NULL || !may_join(line, hashes, known, shared_by_all))
            break;
        if (line->head == state && known < count)
            return (Found){.line = (Branch *)Py_NewRef(line), .via = REPLY, .shared = known};
        return (Found){.line = line_at(line, state), .via = known < count ? REQUEST : REPEAT, .shared = known};
    }
    if (count > MOVED_MESSAGES) {
        Conversation *conversation = moved(self, scope, hashes);
        if (conversation != NULL)
            return (Found){.line = branch_of(conversation), .via = MOVED};
    }
    return (Found){.via = NEW};
}
