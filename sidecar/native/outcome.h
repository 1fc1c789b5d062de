/* Errors that stand beside what OpenAI's chat dialect defines, under status 200. */
#ifndef BURSAR_OUTCOME_H
#define BURSAR_OUTCOME_H

#include "json.h"

/* Past the kind of an object; -1 where it is an error, as old servers of vLLM and FastChat name it. */
int read_kind(struct cursor *c);
/* Past MiniMax's word on how a call went, or null; -1 where it did not go well. */
int read_base_resp(struct cursor *c);

#endif
