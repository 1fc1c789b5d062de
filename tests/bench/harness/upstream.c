/* upstream: a stand-in for a model provider, so cheap (about 6 us a request) that a benchmark
 * never measures it. One thread, epoll, HTTP/1.1 with keep-alive; loopback only.
 *
 *   upstream PORT
 *
 *   POST .../chat/completions    an OpenAI chat completion, whole or as an event stream
 *   POST .../messages            an Anthropic message, likewise
 *   GET  .../models              a model list; any other GET: {"status":"ok"}
 *
 * The request steers the reply by fields that every gateway passes on:
 *   "stream": true    an event stream
 *   "max_tokens": N   that many content chunks (100)
 *   "seed": U         U microseconds from chunk to chunk; before a whole reply
 * Each reply has an id of its own; each content chunk carries the mark of common.h. Chunks are due
 * at fixed times from the start of the reply, so a late one does not delay the rest.
 */
#define _GNU_SOURCE
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FILES 65536
#define LENGTH(literal) (sizeof(literal) - 1)

enum dialect { OPENAI, ANTHROPIC };

struct bytes { char *at; size_t length, capacity; };

struct peer {
  int fd;
  struct bytes in, out;
  size_t sent;               /* of out */
  int replying, streaming, close_after, waits_to_write;
  enum dialect dialect;
  uint64_t reply;            /* number of the reply; a timer for an older one is void */
  long chunks, written;
  uint64_t gap_ns, due;
};

static struct peer *peers[MAX_FILES];
static int poll_fd;
static uint64_t replies;

/* ---- timers: a binary heap, earliest first ------------------------------------------------- */
struct timer { uint64_t due, reply; int fd; };
static struct timer *heap;
static size_t heap_length, heap_capacity;

static void timer_add(uint64_t due, const struct peer *p) {
  if (heap_length == heap_capacity) {
    heap_capacity = heap_capacity ? heap_capacity * 2 : 4096;
    heap = need(realloc(heap, heap_capacity * sizeof *heap));
  }
  size_t i = heap_length++;
  for (; i && heap[(i - 1) / 2].due > due; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
  heap[i] = (struct timer){due, p->reply, p->fd};
}

static struct timer timer_take(void) {
  struct timer first = heap[0], last = heap[--heap_length];
  size_t i = 0;
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= heap_length) break;
    if (child + 1 < heap_length && heap[child + 1].due < heap[child].due) child++;
    if (heap[child].due >= last.due) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = last;
  return first;
}

/* ---- bytes out ------------------------------------------------------------------------------ */
static void reserve(struct bytes *b, size_t more) {
  if (b->length + more <= b->capacity) return;
  b->capacity = (b->length + more) * 2;
  b->at = need(realloc(b->at, b->capacity));
}

static void put(struct peer *p, const char *from, size_t length) {
  reserve(&p->out, length);
  memcpy(p->out.at + p->out.length, from, length);
  p->out.length += length;
}

static void put_chunk(struct peer *p, const char *from, size_t length) {
  char head[20];
  put(p, head, (size_t)sprintf(head, "%zx\r\n", length));
  put(p, from, length);
  put(p, "\r\n", 2);
}

static void watch(struct peer *p, int for_writing) {
  if (p->waits_to_write == for_writing) return;
  p->waits_to_write = for_writing;
  struct epoll_event e = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0), .data.fd = p->fd};
  epoll_ctl(poll_fd, EPOLL_CTL_MOD, p->fd, &e);
}

/* 0, or -1 when the peer is gone */
static int flush(struct peer *p) {
  while (p->sent < p->out.length) {
    ssize_t n = send(p->fd, p->out.at + p->sent, p->out.length - p->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { watch(p, 1); return 0; }
    if (n < 0) return -1;
    p->sent += (size_t)n;
  }
  p->sent = p->out.length = 0;
  watch(p, 0);
  return 0;
}

/* ---- replies -------------------------------------------------------------------------------- */
#define ID "0123456789abcdef"
static const char ANSWER[] =
  "A sidecar stands beside a service and takes on the work that is not the service's own: it "
  "forwards each call, counts the tokens, keeps the books, and says early when something looks "
  "wrong. As every call passes through it, it sees the whole cost of a task and can stop a loop "
  "that ran away before the bill arrives.";
static char whole[2][4096];
static size_t whole_length[2], whole_id[2];

static void prepare(void) {
  char body[3000];
  static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_bench\r\n";
  for (int d = OPENAI; d <= ANTHROPIC; d++) {
    int n = d == OPENAI
      ? sprintf(body, "{\"id\":\"chatcmpl-" ID "\",\"object\":\"chat.completion\",\"created\":1750000000,"
          "\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
          "\"%s\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":64,"
          "\"completion_tokens\":72,\"total_tokens\":136,\"prompt_tokens_details\":{\"cached_tokens\":32,"
          "\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}},"
          "\"system_fingerprint\":\"fp_bench\"}", ANSWER)
      : sprintf(body, "{\"id\":\"msg_" ID "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":"
          "\"claude-3-5-haiku-latest\",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}],\"stop_reason\":"
          "\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":32,\"output_tokens\":72,"
          "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":32}}", ANSWER);
    whole_length[d] = (size_t)sprintf(whole[d], "%sContent-Length: %d\r\n\r\n%s", head, n, body);
    whole_id[d] = (size_t)(strstr(whole[d], ID) - whole[d]);
  }
}

static void put_id(char *at, uint64_t number) {
  for (int i = 15; i >= 0; i--, number >>= 4) at[i] = "0123456789abcdef"[number & 15];
}

static void put_whole(struct peer *p) {
  size_t start = p->out.length;
  put(p, whole[p->dialect], whole_length[p->dialect]);
  put_id(p->out.at + start + whole_id[p->dialect], p->reply);
}

static void put_content(struct peer *p) {
  char event[600];
  unsigned long long at = now_ns();
  int n = p->dialect == ANTHROPIC
    ? sprintf(event, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
        "\"delta\":{\"type\":\"text_delta\",\"text\":\" @T%019llu@\"}}\n\n", at)
    : sprintf(event, "data: {\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,"
        "\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\",\"choices\":[{"
        "\"index\":0,\"delta\":{%s\"content\":\" @T%019llu@\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
        (unsigned long long)p->reply, p->written ? "" : "\"role\":\"assistant\",", at);
  put_chunk(p, event, (size_t)n);
  p->written++;
}

static void put_stream_head(struct peer *p) {
  static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    "Cache-Control: no-cache\r\nx-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n";
  put(p, head, LENGTH(head));
  if (p->dialect == OPENAI) return;
  char event[700];
  int n = sprintf(event, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_%016llx\","
    "\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-3-5-haiku-latest\",\"content\":[],"
    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":32,\"cache_creation_input_tokens\":0,"
    "\"cache_read_input_tokens\":32,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":"
    "\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    (unsigned long long)p->reply);
  put_chunk(p, event, (size_t)n);
}

static void put_stream_end(struct peer *p) {
  char event[1000];
  unsigned long long id = p->reply;
  int n = p->dialect == ANTHROPIC
    ? sprintf(event, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","
        "\"stop_sequence\":null},\"usage\":{\"output_tokens\":%ld}}\n\n"
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", p->chunks)
    : sprintf(event, "data: {\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,"
        "\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":"
        "\"stop\"}]}\n\ndata: {\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,"
        "\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{\"prompt_tokens\":64,\"completion_tokens\":%ld,"
        "\"total_tokens\":%ld,\"prompt_tokens_details\":{\"cached_tokens\":32}}}\n\ndata: [DONE]\n\n",
        id, id, p->chunks, 64 + p->chunks);
  put_chunk(p, event, (size_t)n);
  put(p, "0\r\n\r\n", 5);
}

static void end_reply(struct peer *p) { p->replying = p->streaming = 0; }

/* Go on with a stream as far as its pace, or the peer's socket, lets it. */
static int go_on(struct peer *p) {
  while (p->written < p->chunks) {
    if (p->gap_ns) {
      if (now_ns() < p->due) { timer_add(p->due, p); return flush(p); }
      p->due += p->gap_ns;
    }
    put_content(p);
    if (flush(p) < 0) return -1;
    if (!p->gap_ns && p->out.length) return 0;   /* as fast as the peer reads; writing goes on from there */
  }
  put_stream_end(p);
  end_reply(p);
  return flush(p);
}

/* ---- requests ------------------------------------------------------------------------------- */
static long number_field(const char *body, size_t length, const char *name, long absent) {
  const char *end = body + length, *at = memmem(body, length, name, strlen(name));
  if (!at) return absent;
  for (at += strlen(name); at < end && (*at == ' ' || *at == ':'); at++) {}
  if (at < end && *at == 't') return 1;
  long value = 0;
  int digits = 0;
  for (; at < end && *at >= '0' && *at <= '9'; at++, digits++) value = value * 10 + (*at - '0');
  return digits ? value : absent;
}

static const char *header_value(const char *head, size_t length, const char *name) {
  size_t n = strlen(name);
  const char *end = head + length;
  for (const char *line = memchr(head, '\n', length); line; line = memchr(line, '\n', (size_t)(end - line))) {
    line++;
    if ((size_t)(end - line) > n && line[n] == ':' && !strncasecmp(line, name, n)) {
      for (line += n + 1; *line == ' '; line++) {}
      return line;
    }
  }
  return NULL;
}

/* Length of the chunked body at ``body``, which is squeezed together in place; -1 while incomplete. */
static long unchunk(char *body, char *end, size_t *raw) {
  for (char *at = body;;) {                 /* whole? */
    char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
    if (!line_end) return -1;
    size_t size = strtoul(at, NULL, 16);
    if ((size_t)(end - line_end) < size + 4) return -1;
    at = line_end + 2 + size + 2;
    if (!size) { *raw = (size_t)(at - body); break; }
  }
  char *to = body;
  for (char *at = body;;) {
    size_t size = strtoul(at, NULL, 16);
    if (!size) return to - body;
    char *data = (char *)memmem(at, (size_t)(end - at), "\r\n", 2) + 2;
    memmove(to, data, size);
    to += size;
    at = data + size + 2;
  }
}

static int answer_get(struct peer *p, int models) {
  static const char list[] = "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o-mini\",\"object\":\"model\","
    "\"created\":1750000000,\"owned_by\":\"bench\",\"max_model_len\":32768}]}";
  /* routers ask what they route to, each by a name of its own */
  static const char status[] = "{\"status\":\"ok\",\"model_path\":\"gpt-4o-mini\",\"served_model_name\":"
    "\"gpt-4o-mini\",\"is_generation\":true,\"tp_size\":1,\"dp_size\":1,\"version\":\"0.5.0\"}";
  const char *body = models ? list : status;
  char head[120];
  put(p, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    "Content-Length: %zu\r\n\r\n", strlen(body)));
  put(p, body, strlen(body));
  return flush(p);
}

static int answer_post(struct peer *p, const char *body, size_t length) {
  p->reply = ++replies;
  p->chunks = number_field(body, length, "\"max_tokens\"", -1);
  if (p->chunks < 0) p->chunks = number_field(body, length, "\"max_completion_tokens\"", 100);
  p->gap_ns = (uint64_t)number_field(body, length, "\"seed\"", 0) * 1000;
  p->streaming = number_field(body, length, "\"stream\"", 0) == 1;
  p->written = 0;
  p->replying = 1;
  if (p->streaming) {
    put_stream_head(p);
    p->due = now_ns();
    return go_on(p);
  }
  if (p->gap_ns) { timer_add(now_ns() + p->gap_ns, p); return 0; }
  put_whole(p);
  end_reply(p);
  return flush(p);
}

/* Answer each whole request in the input, in order; -1 when the peer is gone. */
static int serve(struct peer *p) {
  while (!p->replying && p->in.length) {
    char *head = p->in.at, *head_end = memmem(head, p->in.length, "\r\n\r\n", 4);
    if (!head_end) return 0;
    size_t head_length = (size_t)(head_end + 4 - head), available = p->in.length - head_length, raw = 0;
    char *body = head + head_length;
    long length = 0;
    const char *value;
    if ((value = header_value(head, head_length, "content-length"))) {
      length = atol(value);
      raw = (size_t)length;
      if (available < raw) return 0;
    } else if (header_value(head, head_length, "transfer-encoding")) {
      length = unchunk(body, body + available, &raw);
      if (length < 0) return 0;
    }
    size_t line = (size_t)((char *)memchr(head, '\r', head_length) - head);
    value = header_value(head, head_length, "connection");
    p->close_after = value && !strncasecmp(value, "close", 5);
    p->dialect = memmem(head, line, "/messages", 9) ? ANTHROPIC : OPENAI;
    int r = head[0] == 'P' ? answer_post(p, body, (size_t)length) : answer_get(p, memmem(head, line, "/models", 7) != NULL);
    if (r < 0) return -1;
    p->in.length -= head_length + raw;
    memmove(p->in.at, p->in.at + head_length + raw, p->in.length);
    if (p->close_after && !p->replying && !p->out.length) return -1;
  }
  return 0;
}

/* ---- the loop ------------------------------------------------------------------------------- */
static void drop(struct peer *p) {
  peers[p->fd] = NULL;
  close(p->fd);
  free(p->in.at);
  free(p->out.at);
  free(p);
}

static void welcome(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MAX_FILES) { close(fd); continue; }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    peers[fd] = need(calloc(1, sizeof **peers));
    peers[fd]->fd = fd;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
  }
}

static int read_some(struct peer *p) {
  for (;;) {
    reserve(&p->in, 65536);
    size_t room = p->in.capacity - p->in.length;
    ssize_t n = recv(p->fd, p->in.at + p->in.length, room, 0);
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) return -1;
    p->in.length += (size_t)n;
    if ((size_t)n < room) break;
  }
  return serve(p);
}

static int write_more(struct peer *p) {
  if (flush(p) < 0) return -1;
  if (p->out.length) return 0;
  if (p->streaming && !p->gap_ns && go_on(p) < 0) return -1;
  if (p->replying) return 0;
  return p->close_after ? -1 : serve(p);
}

static int timer_fires(struct peer *p) {
  if (p->streaming) {
    if (go_on(p) < 0) return -1;
  } else {
    put_whole(p);
    end_reply(p);
    if (flush(p) < 0) return -1;
  }
  if (p->replying) return 0;
  return p->close_after && !p->out.length ? -1 : serve(p);
}

int main(int argc, char **argv) {
  if (argc != 2) { fputs("usage: upstream PORT\n", stderr); return 2; }
  raise_file_limit();
  signal(SIGPIPE, SIG_IGN);
  prepare();
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
    perror("upstream: listen");
    return 1;
  }
  poll_fd = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, ready[512];
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &e);
  for (;;) {
    struct timespec wait, *until = NULL;
    if (heap_length) {
      uint64_t t = now_ns(), left = heap[0].due > t ? heap[0].due - t : 0;
      wait = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
      until = &wait;
    }
    int n = epoll_pwait2(poll_fd, ready, 512, until, NULL);
    uint64_t t = now_ns();
    while (heap_length && heap[0].due <= t) {
      struct timer due = timer_take();
      struct peer *p = peers[due.fd];
      if (p && p->replying && p->reply == due.reply && timer_fires(p) < 0) drop(p);
    }
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) { welcome(listener); continue; }
      struct peer *p = peers[fd];
      if (!p) continue;
      if ((ready[i].events & EPOLLOUT) && write_more(p) < 0) { drop(p); continue; }
      if ((ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && read_some(p) < 0) drop(p);
    }
  }
}
