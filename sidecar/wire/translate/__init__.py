"""From one dialect into another, pure: bytes in, bytes out, no I/O.

translation        the way between two dialects, there and back
meter              one reply, read in the provider's dialect and passed on in the agent's
chat_to_messages   messages_to_chat   responses_to_chat   chat_to_responses
                   requests; what the other side has no words for is refused, by its name
messages_reply     responses_reply    what they answered, as a chat's answer
chat_reply         chat_reply_as_response
                   what a chat answered, as Anthropic's and as the Responses API's
usage              a usage in each dialect's words
common             the tools of the above

Thoughts of earlier turns, and marks about caches, are left out where the other side has no place for
them: neither changes what is asked.
"""
