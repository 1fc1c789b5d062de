/* load: a load generator for HTTP/1.1 JSON APIs and their event streams. One thread, epoll,
 * loopback only.
 *
 *   load -p PORT -b BODYFILE [-u PATH] [-H 'Name: value']... [-c CONNECTIONS] [-d SECONDS]
 *        [-n REQUESTS] [-r RATE] [-s]
 *
 * Closed loop (without -r): each connection asks again as soon as its reply is whole, until the
 * time is over or -n requests were begun; replies under way are waited for.
 * Open loop (-r): requests are due at even steps, and a latency counts from when its request was
 * due, so that a server that stalls cannot hide its stall.
 * -s: replies are event streams; the time to the first marked chunk and the delay of every marked
 * chunk (common.h) are reported.
 *
 * Prints one JSON object; times in milliseconds. ``sent`` counts requests that reached the server,
 * whatever became of them.
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

#define PATIENCE_NS 30000000000u   /* how long replies under way are waited for after the end */

/* ---- distributions -------------------------------------------------------------------------- */
struct sample { uint32_t *at; size_t length, capacity; };   /* in tenths of a microsecond */

static void record(struct sample *s, uint64_t ns) {
  if (s->length == s->capacity) {
    s->capacity = s->capacity ? s->capacity * 2 : 1 << 16;
    s->at = need(realloc(s->at, s->capacity * sizeof *s->at));
  }
  uint64_t v = ns / 100;
  s->at[s->length++] = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void print_quantiles(const char *name, struct sample *s) {
  static const struct { const char *suffix; double p; } wanted[] =
    {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
  if (s->length) qsort(s->at, s->length, sizeof *s->at, ascending);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    printf(",\"%s_%s\":", name, wanted[i].suffix);
    if (s->length) printf("%.4f", s->at[(size_t)(wanted[i].p * (double)(s->length - 1))] / 1e4);
    else printf("null");
  }
}

/* ---- connections ---------------------------------------------------------------------------- */
enum framing { SIZE_LINE, DATA, AFTER_DATA, TRAILER };

struct connection {
  int fd, open, busy, in_head, status, chunked, saw_content;
  enum framing framing;
  long left;                       /* bytes to come, of the body or of the present chunk */
  char head[8192]; size_t head_length;
  char line[32]; size_t line_length;
  char tail[MARK_LENGTH]; size_t tail_length;   /* the end of the last piece: a mark may be cut in two */
  uint64_t due;
};

static struct connection *connections;
static int connection_count = 1, poll_fd, port, streams, *idle, idle_count;
static char *request, complaint[240];
static size_t request_length;
/* Agents do not say the same over and over: each request carries its number, where its body leaves room. */
static const char ROOM_FOR_NUMBER[] = "0000000000";
static char *number_at;
static uint64_t numbered;
static double rate;
static uint64_t ends_at, most_requests, begun, sent, answered, errors, refused, reconnects, marks, bytes_in;
static struct sample latency, first_chunk, chunk_delay;

static int connect_now(struct connection *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(c->fd, (struct sockaddr *)&a, sizeof a)) { close(c->fd); return -1; }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &e);
  c->open = 1;
  return 0;
}

static void hang_up(struct connection *c) { close(c->fd); c->open = 0; }

static void number_request(void) {
  if (!number_at) return;
  uint64_t rest = ++numbered;
  for (int place = (int)sizeof(ROOM_FOR_NUMBER) - 2; place >= 0; place--, rest /= 10)
    number_at[place] = (char)('0' + rest % 10);
}

static int over(uint64_t t) { return t >= ends_at || (most_requests && begun >= most_requests); }

static void rest(struct connection *c) { idle[idle_count++] = (int)(c - connections); }

static void ask(struct connection *c, uint64_t due) {
  *c = (struct connection){.fd = c->fd, .open = c->open, .busy = 1, .in_head = 1, .due = due};
  begun++;
  for (int tries = 0; tries < 2; tries++) {
    if (!c->open && connect_now(c)) continue;
    number_request();
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) == (ssize_t)request_length) { sent++; return; }
    hang_up(c);
    reconnects++;
  }
  errors++;
  c->busy = 0;
  rest(c);
}

static void reply_ends(struct connection *c, int whole) {
  uint64_t t = now_ns();
  c->busy = 0;
  if (!whole) { errors++; hang_up(c); }
  else {
    answered++;
    if (c->status == 200) record(&latency, t - c->due); else refused++;
  }
  if (rate > 0 || over(t)) rest(c); else ask(c, t);
}

/* ---- replies -------------------------------------------------------------------------------- */
static void find_marks(struct connection *c, const char *data, size_t length) {
  static char joined[MARK_LENGTH + (1 << 17)];
  memcpy(joined, c->tail, c->tail_length);
  memcpy(joined + c->tail_length, data, length);
  length += c->tail_length;
  uint64_t t = now_ns();
  const char *at = joined, *end = joined + length, *hit;
  while ((hit = memmem(at, (size_t)(end - at), "@T", 2))) {
    if (end - hit < MARK_LENGTH) { at = hit; break; }
    at = hit + 2;
    if (hit[MARK_LENGTH - 1] != '@') continue;
    uint64_t written = strtoull(hit + 2, NULL, 10);
    marks++;
    record(&chunk_delay, t > written ? t - written : 0);
    if (!c->saw_content) { c->saw_content = 1; record(&first_chunk, t - c->due); }
    at = hit + MARK_LENGTH;
  }
  size_t keep = hit ? (size_t)(end - hit) : (at < end && end[-1] == '@' ? 1 : 0);
  memcpy(c->tail, end - keep, keep);
  c->tail_length = keep;
}

/* Bytes of a head: how many belonged to it, or -1 when it makes no sense. */
static long take_head(struct connection *c, const char *data, size_t length) {
  size_t before = c->head_length, room = sizeof c->head - 1 - before, n = length < room ? length : room;
  memcpy(c->head + before, data, n);
  c->head_length += n;
  char *end = memmem(c->head, c->head_length, "\r\n\r\n", 4);
  if (!end) return n == length ? (long)n : -1;
  size_t head_length = (size_t)(end + 4 - c->head);
  *end = 0;
  c->in_head = 0;
  c->status = atoi(c->head + 9);
  const char *value = strcasestr(c->head, "\ncontent-length:");
  c->chunked = strcasestr(c->head, "\ntransfer-encoding: chunked") != NULL;
  if (!value && !c->chunked) return -1;
  c->left = value ? atol(value + 16) : 0;
  return (long)(head_length - before);
}

/* Walk over one piece of a chunked body; 1 when it ended. */
static int take_chunked(struct connection *c, const char *data, size_t length) {
  while (length) {
    if (c->framing == DATA) {
      size_t n = length < (size_t)c->left ? length : (size_t)c->left;
      if (streams) find_marks(c, data, n);
      data += n; length -= n; c->left -= (long)n;
      if (!c->left) c->framing = AFTER_DATA;
      continue;
    }
    char byte = *data++;
    length--;
    if (c->framing == AFTER_DATA) {
      if (byte == '\n') c->framing = SIZE_LINE;
    } else if (byte != '\n') {
      if (byte != '\r' && c->line_length < sizeof c->line - 1) c->line[c->line_length++] = byte;
    } else if (c->framing == SIZE_LINE) {
      c->line[c->line_length] = 0;
      c->left = strtol(c->line, NULL, 16);
      c->line_length = 0;
      c->framing = c->left ? DATA : TRAILER;
    } else {
      if (!c->line_length) return 1;
      c->line_length = 0;
    }
  }
  return 0;
}

/* 1 the reply is whole, 0 more to come, -1 nonsense */
static int take(struct connection *c, const char *data, size_t length) {
  bytes_in += length;
  if (c->in_head) {
    long n = take_head(c, data, length);
    if (n < 0) return -1;
    data += n; length -= (size_t)n;
    if (c->in_head) return 0;
  }
  if (c->status != 200 && !*complaint) {
    for (size_t i = 0; i < length && i < sizeof complaint - 1; i++)
      complaint[i] = data[i] == '"' || data[i] == '\\' || (unsigned char)data[i] < 32 ? ' ' : data[i];
  }
  if (c->chunked) return take_chunked(c, data, length);
  if (streams) find_marks(c, data, length);
  c->left -= (long)length;
  return c->left <= 0;
}

static void on_readable(struct connection *c, uint64_t *last_whole) {
  static char buffer[1 << 17];
  if (!c->open) return;
  ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    if (c->busy) reply_ends(c, 0); else { hang_up(c); reconnects++; }
    return;
  }
  if (!c->busy) return;
  int r = take(c, buffer, (size_t)n);
  if (!r) return;
  *last_whole = now_ns();
  reply_ends(c, r > 0);
}

static void compose_request(const char *path, const char *headers, const char *body_path) {
  FILE *f = fopen(body_path, "rb");
  if (!f) { perror(body_path); exit(2); }
  size_t most = 4u << 20;
  char *body = need(malloc(most));
  size_t length = fread(body, 1, most, f);
  fclose(f);
  request = need(malloc(length + strlen(headers) + strlen(path) + 300));
  request_length = (size_t)sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
    "Accept: */*\r\nUser-Agent: bench/1\r\n%sContent-Length: %zu\r\n\r\n", path, port, headers, length);
  memcpy(request + request_length, body, length);
  request_length += length;
  request[request_length] = 0;
  number_at = strstr(request, ROOM_FOR_NUMBER);
  free(body);
}

static void report(uint64_t began, uint64_t last_whole) {
  double seconds = (double)((last_whole ? last_whole : now_ns()) - began) / 1e9;
  struct rusage own;
  getrusage(RUSAGE_SELF, &own);
  printf("{\"sent\":%lu,\"answered\":%lu,\"errors\":%lu,\"refused\":%lu,\"reconnects\":%lu,\"seconds\":%.4f,\"chunks\":%lu,"
    "\"bytes\":%lu,\"load_cpu_s\":%.3f,\"complaint\":\"%s\"", sent, answered, errors, refused, reconnects, seconds, marks,
    bytes_in, (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) + (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6,
    complaint);
  print_quantiles("latency_ms", &latency);
  print_quantiles("first_chunk_ms", &first_chunk);
  print_quantiles("chunk_delay_ms", &chunk_delay);
  puts("}");
}

int main(int argc, char **argv) {
  const char *path = "/v1/chat/completions", *body_path = NULL;
  char headers[8192] = "";
  double seconds = 3;
  for (int o; (o = getopt(argc, argv, "p:u:b:H:c:d:n:r:s")) > 0;) switch (o) {
    case 'p': port = atoi(optarg); break;
    case 'u': path = optarg; break;
    case 'b': body_path = optarg; break;
    case 'H':
      if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) return 2;
      strcat(strcat(headers, optarg), "\r\n");
      break;
    case 'c': connection_count = atoi(optarg); break;
    case 'd': seconds = atof(optarg); break;
    case 'n': most_requests = strtoull(optarg, NULL, 10); break;
    case 'r': rate = atof(optarg); break;
    case 's': streams = 1; break;
    default: return 2;
  }
  if (!port || !body_path || connection_count < 1) {
    fputs("load: -p PORT and -b BODYFILE are needed; the head of load.c says the rest\n", stderr);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  raise_file_limit();
  compose_request(path, headers, body_path);
  poll_fd = epoll_create1(0);
  connections = need(calloc((size_t)connection_count, sizeof *connections));
  idle = need(malloc((size_t)connection_count * sizeof *idle));
  for (int i = 0; i < connection_count; i++) connect_now(&connections[i]);

  uint64_t began = now_ns(), last_whole = 0, step = rate > 0 ? (uint64_t)(1e9 / rate) : 0, next_due = began;
  ends_at = began + (uint64_t)(seconds * 1e9);
  for (int i = connection_count; i--;) {
    if (rate > 0) rest(&connections[i]); else ask(&connections[i], now_ns());
  }
  struct epoll_event ready[512];
  for (;;) {
    uint64_t t = now_ns();
    while (rate > 0 && next_due <= t && next_due < ends_at && idle_count) {
      ask(&connections[idle[--idle_count]], next_due);
      next_due += step;
    }
    if (over(t) && idle_count == connection_count) break;
    if (t > ends_at + PATIENCE_NS) { errors += (uint64_t)(connection_count - idle_count); break; }
    uint64_t wait = 100000000;
    if (rate > 0 && idle_count && next_due < ends_at) wait = next_due > t ? next_due - t : 0;
    struct timespec ts = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    int n = epoll_pwait2(poll_fd, ready, 512, &ts, NULL);
    for (int i = 0; i < n; i++) on_readable(ready[i].data.ptr, &last_whole);
  }
  report(began, last_whole);
  return 0;
}
