"""Reuse of answers: what is kept, for whom, and when it may be given again.

    settings      what a configuration says
    key           which requests are the same one; which of them repeat themselves
    entry         one answer that is kept, and which answers never are
    savings       what giving it again saves
    memory        where answers lie in this process: leaving by what they are expected to save
    redis_store   where they lie for many sidecars: sealed, so that an edited one is a miss
    question      what a request asks, apart from everything around it
    similar       finding kept answers to similar questions, in a process of its own
    guards        whether two texts may share an answer
    bound         how far similar answers may be trusted: measured, by scope and distance
    resemblance   all of this together
    said          the text of a kept answer
    flights       one asks, the others wait
    purging       taking answers away, by tenant, model or tag

The stage that uses all of it is :mod:`sidecar.stages.reuse`.
"""
