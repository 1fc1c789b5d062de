"""Finding kept answers to similar questions, in a process beside the sidecar.

asking      how the sidecar asks: frames over a pipe, a deadline, no waiting on what is slow or gone
frames      what goes over the pipe
finder      the process: it makes vectors, searches, and lets the guards judge
runners     what makes vectors: MiniLM (minilm, wordpiece; onnx), an endpoint, TF-IDF
index       where vectors are searched: exactly, or beyond a million by usearch or faiss
shelf       texts and vectors in Redis, for many sidecars; its own vector search where it has one
"""
