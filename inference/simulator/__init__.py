"""A model server that costs nothing: real shapes, real usage figures, scriptable misfortune.

    tokens         how this server counts: four bytes of UTF-8 are one token
    prompts        a request of any dialect, rendered to the text the model "reads"
    prompt_cache   prefixes seen before, as the providers remember them
    directives     what a request may dictate: figures, lengths, faults
    models         pace and habits of each model
    answers        the reply, decided: text, tool calls, reasoning, usage
    openai_chat, openai_responses, openai_others, anthropic   the dialects' bytes
    faults         what can go wrong, and how often it should
    http           the server's side of HTTP/1.1
    service        one request, from directive to last byte
    app            the command: ``python -m inference.simulator --port 9000``

It never pretends: every reply carries ``x-bursar-simulator: 1`` and says so in its text.
"""
