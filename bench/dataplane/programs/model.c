// A stand-in for a model behind HTTP/1.1; one thread.
//
//   model MODE DELAY ANSWER
//
// MODE: ok (answers after DELAY microseconds), hang (never), reset (breaks off in the middle of its answer), garbage (no
// HTTP), endless (a body that never ends). ANSWER is a file with the body. Prints its port; on SIGTERM how many
// requests it had.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { CONNECTIONS = 1 << 16, BUFFER = 1 << 16, ROOM = 1 << 18 };
enum Mode { OK, HANG, RESET, GARBAGE, ENDLESS };
static const char *MODES[] = {"ok", "hang", "reset", "garbage", "endless"};

// A request's head is kept until it is whole, its body is counted and forgotten.
typedef struct {
  int open;
  uint32_t generation;  // an answer that is due later is not for the next one with this number
  size_t length;
  long body;  // bytes of it that have not come yet; -1: chunked
  char *buffer;
} Connection;

typedef struct {
  uint64_t due;
  int fd;
  uint32_t generation;
} Later;

static Connection connections[CONNECTIONS];
static Later later[ROOM];
static uint64_t first, last, requests;
static char *answer, noise[1 << 16];
static size_t answer_length;
static uint64_t delay;
static enum Mode mode;
static int poller;
static volatile sig_atomic_t over;

static void stop(int number) { (void)number, over = 1; }

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void hang_up(int fd) {
  connections[fd].open = 0, connections[fd].generation++;
  close(fd);
}

static void say(int fd) {
  if (mode == OK) {
    if (send(fd, answer, answer_length, MSG_NOSIGNAL) != (ssize_t)answer_length) hang_up(fd);
  } else if (mode == RESET) {
    struct linger now_linger = {1, 0};
    send(fd, answer, answer_length / 2, MSG_NOSIGNAL);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_linger, sizeof now_linger);
    hang_up(fd);
  } else if (mode == GARBAGE) {
    static const char garbage[] = "\x00\xff\xfe\r\n\x16\x03\x01 this is no HTTP\r\n\r\n{{{{";
    send(fd, garbage, sizeof garbage, MSG_NOSIGNAL);
  } else if (mode == ENDLESS) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1099511627776\r\n\r\n";
    send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
  }
}

static void was_asked(int fd) {
  requests++;
  if (mode == HANG) return;
  if (!delay) say(fd);
  else if (last - first < ROOM) later[last++ % ROOM] = (Later){now() + delay, fd, connections[fd].generation};
}

static long body_length(const char *head, const char *stop) {
  long length = 0;
  for (const char *line = head; line && line < stop; line = memchr(line, '\n', stop - line), line = line ? line + 1 : 0) {
    if (!strncasecmp(line, "content-length:", 15)) length = atol(line + 15);
    if (!strncasecmp(line, "transfer-encoding:", 18)) length = -1;
  }
  return length;
}

static void take(int fd, Connection *c) {
  while (c->open) {
    ssize_t n = recv(fd, c->buffer + c->length, BUFFER - c->length, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      hang_up(fd);
      return;
    }
    int full = c->length + n == BUFFER;
    c->length += n;
    while (c->open && c->length) {
      char *stop;
      if (c->body > 0) {
        size_t taken = (size_t)c->body < c->length ? (size_t)c->body : c->length;
        c->body -= taken, c->length -= taken;
        memmove(c->buffer, c->buffer + taken, c->length);
        if (!c->body) was_asked(fd);
      } else if (c->body < 0) {
        if (!(stop = memmem(c->buffer, c->length, "0\r\n\r\n", 5))) {
          size_t kept = c->length < 4 ? c->length : 4;
          memmove(c->buffer, c->buffer + c->length - kept, kept), c->length = kept;
          break;
        }
        c->length -= stop + 5 - c->buffer, memmove(c->buffer, stop + 5, c->length), c->body = 0;
        was_asked(fd);
      } else {
        if (!(stop = memmem(c->buffer, c->length, "\r\n\r\n", 4))) break;
        c->body = body_length(c->buffer, stop);
        c->length -= stop + 4 - c->buffer, memmove(c->buffer, stop + 4, c->length);
        if (!c->body) was_asked(fd);
      }
    }
    if (!full) return;
  }
}

static void accept_all(int listener) {
  for (int fd, one = 1; (fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0;) {
    if (fd >= CONNECTIONS) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Connection *c = &connections[fd];
    c->open = 1, c->length = 0, c->body = 0;
    if (!c->buffer) c->buffer = malloc(BUFFER);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "model MODE DELAY ANSWER\n"), 2;
  while (mode <= ENDLESS && strcmp(argv[1], MODES[mode])) mode++;
  if (mode > ENDLESS) return fprintf(stderr, "unknown mode %s\n", argv[1]), 2;
  delay = strtoull(argv[2], 0, 10) * 1000;
  FILE *file = fopen(argv[3], "rb");
  if (!file) return perror(argv[3]), 2;
  static char body[1 << 22];
  size_t length = fread(body, 1, sizeof body, file);
  answer = malloc(length + 512);
  answer_length = sprintf(answer, "HTTP/1.1 200 OK\r\nServer: model\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\n"
                                  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
  memcpy(answer + answer_length, body, length), answer_length += length;
  memset(noise, 'x', sizeof noise);
  signal(SIGPIPE, SIG_IGN), signal(SIGTERM, stop);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  struct rlimit files = {CONNECTIONS, CONNECTIONS};
  setrlimit(RLIMIT_NOFILE, &files);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("listen"), 1;
  getsockname(listener, (void *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  event.data.fd = timer;
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
  uint64_t armed = 0;
  while (!over) {
    if (first != last && armed != later[first % ROOM].due) {
      armed = later[first % ROOM].due;
      struct itimerspec when = {.it_value = {armed / 1000000000ull, armed % 1000000000ull}};
      timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, 0);
    }
    struct epoll_event events[256];
    int n = epoll_wait(poller, events, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        accept_all(listener);
        continue;
      }
      if (fd == timer) {
        uint64_t expirations;
        if (read(timer, &expirations, 8) == 8) armed = 0;
        continue;
      }
      if (!connections[fd].open) continue;
      if (events[i].events & EPOLLOUT && send(fd, noise, sizeof noise, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
        hang_up(fd);
        continue;
      }
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take(fd, &connections[fd]);
    }
    for (uint64_t at = now(); first != last && later[first % ROOM].due <= at; first++) {
      Later *l = &later[first % ROOM];
      if (connections[l->fd].open && connections[l->fd].generation == l->generation) say(l->fd);
    }
  }
  printf("%lu\n", requests);
  return 0;
}
