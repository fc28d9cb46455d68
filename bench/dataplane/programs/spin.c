// Keeps a core from sleeping, at idle priority: else each request would pay for waking it, and more so at low rates.
#include <signal.h>
#include <sys/prctl.h>

int main(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) __builtin_ia32_pause();
}
