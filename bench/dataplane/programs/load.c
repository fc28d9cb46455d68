// A load generator for HTTP/1.1 on kept-alive connections; one thread.
//
//   load PORT REQUEST CONNECTIONS WARM SECONDS RATE SEED
//
// RATE 0 is a closed loop: each connection sends as soon as it has its answer. Otherwise requests are due at Poisson
// times, whatever became of those before, and latency counts from when a request was due: a stall counts for all who
// would have come meanwhile. REQUEST is a file with the whole request; the sixteen @ in it become an id of its own in each.
// What was due in the WARM seconds is not counted; CPU of the proxy is divided by `asked`, which counts it.
// Prints one line of JSON, times in microseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ID = 16, BUFFER = 1 << 16, QUEUE = 1 << 21 };
static const double PATIENCE = 0.5;  // seconds in which answers to the last requests may still come

typedef struct {
  int fd, busy, chunked, closing;
  uint64_t due;
  size_t length, head, body;  // bytes in the buffer; of the answer's head, once whole; of its body so far
  long expected;
  int status;
  char buffer[BUFFER];
} Connection;

static struct sockaddr_in address;
static int poller;
static char *request, *id;
static size_t request_length;
static Connection *connections;
static int count, idle[1 << 16], idle_count;
static uint64_t warm_until, end;
static double *latencies;
static size_t latency_count, latency_room;
static uint64_t asked, answered, errors, wrong, unanswered, unsent, due_count;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t random_state;
static double uniform(void) {  // in (0, 1]
  random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
  return ((random_state >> 11) + 1) / 9007199254740992.0;
}

static void record(uint64_t due, uint64_t at) {
  if (due < warm_until) return;
  if (latency_count == latency_room)
    latencies = realloc(latencies, (latency_room = latency_room ? 2 * latency_room : 1 << 16) * sizeof *latencies);
  latencies[latency_count++] = (at - due) / 1e3;
}

static void open_connection(Connection *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  c->busy = 0, c->length = 0, c->head = 0;
  if (connect(c->fd, (void *)&address, sizeof address)) {
    close(c->fd), c->fd = -1;
    return;
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void reopen(Connection *c) {
  if (c->fd >= 0) close(c->fd);
  open_connection(c);
}

static int send_all(int fd) {
  for (size_t sent = 0; sent < request_length;) {
    ssize_t n = send(fd, request + sent, request_length - sent, MSG_NOSIGNAL);
    if (n <= 0) return -1;
    sent += n;
  }
  return 0;
}

static void ask(Connection *c, uint64_t due) {
  static uint64_t last;
  uint64_t at = now();
  last = at > last ? at : last + 1;
  if (id)
    for (int i = 0; i < ID; i++) id[i] = "0123456789abcdef"[last >> (60 - 4 * i) & 15];
  asked++;
  c->due = due, c->busy = 1, c->length = 0, c->head = 0;
  if (c->fd >= 0 && !send_all(c->fd)) return;
  reopen(c);  // a connection that was closed while idle is no error, one that cannot be had is
  c->busy = 1;
  if (c->fd >= 0 && !send_all(c->fd)) return;
  errors++, c->busy = 0;
  record(due, now());
}

static void read_head(Connection *c) {
  char *stop = memmem(c->buffer, c->length, "\r\n\r\n", 4);
  if (!stop) return;
  c->head = stop + 4 - c->buffer, c->body = c->length - c->head;
  c->status = atoi(c->buffer + 9), c->expected = 0, c->chunked = 0, c->closing = 0;
  for (char *line = c->buffer; line && line < stop; line = memchr(line, '\n', stop - line), line = line ? line + 1 : 0) {
    if (!strncasecmp(line, "content-length:", 15)) c->expected = atol(line + 15);
    if (!strncasecmp(line, "transfer-encoding:", 18)) c->chunked = 1;
    if (!strncasecmp(line, "connection: close", 17)) c->closing = 1;
  }
}

// 1: the answer is whole; 0: there is more to come; -1: the connection broke
static int receive(Connection *c) {
  ssize_t n = recv(c->fd, c->buffer + c->length, BUFFER - c->length, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) return -1;
  c->length += n;
  if (c->head) c->body += n;
  else read_head(c);
  if (!c->head) return 0;
  if (c->chunked ? c->length >= 5 && !memcmp(c->buffer + c->length - 5, "0\r\n\r\n", 5) : (long)c->body >= c->expected) return 1;
  if (c->length > BUFFER - 4096) {  // keep what may be the beginning of the last chunk
    memmove(c->buffer, c->buffer + c->length - 16, 16);
    c->length = 16;
  }
  return 0;
}

static int smaller(const void *a, const void *b) {
  double x = *(double *)a, y = *(double *)b;
  return x < y ? -1 : x > y;
}

static double quantile(double p) {
  if (!latency_count) return -1;
  size_t i = p * latency_count;
  return latencies[i < latency_count ? i : latency_count - 1];
}

int main(int argc, char **argv) {
  if (argc != 8) return fprintf(stderr, "load PORT REQUEST CONNECTIONS WARM SECONDS RATE SEED\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_TIMERSLACK, 1000UL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  address.sin_family = AF_INET, address.sin_port = htons(atoi(argv[1])), address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  FILE *file = fopen(argv[2], "rb");
  if (!file) return perror(argv[2]), 2;
  request = malloc(1 << 24);
  request_length = fread(request, 1, 1 << 24, file);
  id = memmem(request, request_length, "@@@@@@@@@@@@@@@@", ID);
  count = atoi(argv[3]);
  double warm = atof(argv[4]), seconds = atof(argv[5]), rate = atof(argv[6]);
  random_state = 88172645463325252ull ^ (strtoull(argv[7], 0, 10) + 1) * 2654435761ull;
  for (int i = 0; i < 50; i++) uniform();
  connections = calloc(count, sizeof *connections);
  uint64_t *waiting = malloc(QUEUE * sizeof *waiting), head = 0, tail = 0;
  poller = epoll_create1(0);
  for (int i = 0; i < count; i++) {
    open_connection(&connections[i]);
    if (connections[i].fd < 0) return perror("connect"), 1;
  }
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = 0};
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
  uint64_t start = now(), armed = 0;
  warm_until = start + warm * 1e9, end = warm_until + seconds * 1e9;
  uint64_t give_up = end + PATIENCE * 1e9;
  double next = start;
  if (rate > 0) {
    for (int i = 0; i < count; i++) idle[idle_count++] = i;
    next -= log(uniform()) * 1e9 / rate;
  } else
    for (int i = 0; i < count; i++) ask(&connections[i], now());
  for (;;) {
    uint64_t at = now();
    int busy = count - idle_count;
    if (at >= end && (at >= give_up || rate <= 0 || (!busy && head == tail))) break;
    if (rate > 0) {
      while (next <= at && next < end) {
        if (tail - head < QUEUE) waiting[tail++ % QUEUE] = next;
        due_count += next >= warm_until;
        next -= log(uniform()) * 1e9 / rate;
      }
      while (head != tail && idle_count) {
        int first = idle[0];  // in turns: all connections are in use
        memmove(idle, idle + 1, --idle_count * sizeof *idle);
        ask(&connections[first], waiting[head++ % QUEUE]);
        if (!connections[first].busy) idle[idle_count++] = first;
      }
      uint64_t alarm = next < end ? next : give_up;
      if (armed != alarm) {
        struct itimerspec when = {.it_value = {alarm / 1000000000ull, alarm % 1000000000ull}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, 0);
        armed = alarm;
      }
    }
    struct epoll_event events[512];
    int n = epoll_wait(poller, events, 512, 100);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (!c) {
        uint64_t expirations;
        if (read(timer, &expirations, 8) < 0) continue;
        armed = 0;
        continue;
      }
      int whole = receive(c);
      if (!whole) continue;
      uint64_t done = now();
      if (whole < 0) {
        int was_busy = c->busy;
        reopen(c);
        if (!was_busy) continue;
        errors++;
        record(c->due, done);
      } else {
        if (c->status != 200) wrong++;
        if (c->due >= warm_until && done < end) answered++;
        record(c->due, done);
        c->busy = 0, c->length = 0, c->head = 0;
        if (c->closing) reopen(c);
      }
      if (rate <= 0 && done < end) ask(c, done);
      else if (rate > 0) idle[idle_count++] = c - connections;
    }
  }
  uint64_t at = now();
  if (rate > 0) {
    for (int i = 0; i < count; i++)
      if (connections[i].busy && connections[i].due >= warm_until) unanswered++, record(connections[i].due, at);
    for (; head != tail; head++)
      if (waiting[head % QUEUE] >= warm_until) unsent++, record(waiting[head % QUEUE], at);
  }
  qsort(latencies, latency_count, sizeof *latencies, smaller);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  printf("{\"asked\":%lu,\"due\":%lu,\"answered\":%lu,\"errors\":%lu,\"wrong\":%lu,\"unanswered\":%lu,\"unsent\":%lu,"
         "\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"most\":%.1f,\"cpu\":%.4f}\n",
         asked, due_count, answered, errors, wrong, unanswered, unsent, quantile(.5), quantile(.9), quantile(.99),
         quantile(1), cpu);
  return 0;
}
