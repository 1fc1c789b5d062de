/* Errors that stand beside what OpenAI's chat dialect defines: whoever meets one lets Python read. */
#include "outcome.h"
#include <string.h>

#define MOST_KIND 256

int read_kind(struct cursor *c)
{
    struct text kind = {NULL, 0, 1};
    return read_short_or_null(c, &kind, MOST_KIND) < 0 || IS(kind, "error") ? -1 : 0;
}

int read_base_resp(struct cursor *c)
{
    unsigned seen = 0;
    int more = TAKEN_NULL(c) ? 0 : begin_object(c);
    while (more > 0) {
        struct text name;
        int64_t code = 0;
        int failed;
        if (read_name(c, &name) < 0)
            return -1;
        if (IS(name, "status_code"))
            failed = once(&seen, 0) < 0 || read_integer(c, &code) < 0 || code != 0;
        else
            failed = skip_value(c, 1) < 0;
        if (failed)
            return -1;
        more = next_member(c, '}');
    }
    return more;
}
