// Handlers that jump out of the call that they interrupt (siglongjmp), as programs do that put a time limit on it.

#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

#include "../signals.hpp"

using namespace conformance;

namespace {

// One a thread, since each jumps within its own stack.
thread_local sigjmp_buf before_call;
void jump_out(int) { siglongjmp(before_call, 7); }

void jump_soon() {
  const itimerval soon{{0, 0}, {0, 30'000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
}

// The call is made, and a handler jumps out of it after a moment. Whether it did.
template <class Call>
[[gnu::noinline]] bool jumped_out_of(Call call, int flags = 0) {
  const Action action(SIGALRM, jump_out, flags);
  if (sigsetjmp(before_call, 1) == 7) return true;
  jump_soon();
  call();
  return false;
}

// A handler whose own call is jumped out of, by another handler, to a frame of its own.
void call_in_handler(int) {
  const Action action(SIGUSR1, [](int) { siglongjmp(before_call, 9); });
  if (sigsetjmp(before_call, 1) == 9) {
    ++handled;
    return;
  }
  raise(SIGUSR1);
}

}  // namespace

TEST_CASE("siglongjmp: out of recv and its kin, and the connection goes on", "[siglongjmp][recv]") {
  const auto pair = connected();
  for (const auto& reader : readers) {
    INFO(reader.name);
    char byte = 0;
    CHECK(jumped_out_of([&] { reader.call(pair.client, &byte, 1); }));
    CHECK_FALSE(is_blocked(SIGALRM));
    send_all(pair.server, "x");
    CHECK(receive(pair.client, 1) == "x");
    send_all(pair.client, "y");
    CHECK(receive(pair.server, 1) == "y");
  }
}

TEST_CASE("siglongjmp: out of send and its kin, and what was taken comes", "[siglongjmp][send]") {
  for (const auto& writer : writers) {
    INFO(writer.name);
    auto pair = connected();
    const auto before = fill(pair.client);
    char byte = 'x';
    CHECK(jumped_out_of([&] {
      while (writer.call(pair.client, &byte, 1) == 1) continue;
    }));
    CHECK(receive(pair.server, before).size() == before);
    pair.client.close();
    char last;
    while (recv(pair.server, &last, 1, 0) == 1) CHECK(last == 'x');
  }
}

TEST_CASE("siglongjmp: out of poll and its kin, and the connection goes on",
          "[siglongjmp][poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  for (const auto& waiter : waiters) {
    INFO(waiter.name);
    CHECK(jumped_out_of([&] { waiter.call(pair.client, POLLIN, -1); }));
    send_all(pair.server, "x");
    CHECK(waiter.call(pair.client, POLLIN, 10'000) == 1);
    CHECK(receive(pair.client, 1) == "x");
  }
}

TEST_CASE("setcontext: out of recv and its kin, of poll and its kin, and the connection goes on",
          "[setcontext][recv][poll]") {
  const auto pair = connected();
  static ucontext_t before;
  const auto jumped = [](auto call) {
    const Action action(SIGALRM, [](int) {
      ucontext_t copy = before;  // gone with the handler's frame
      copy.uc_mcontext.fpregs = &copy.__fpregs_mem;
      setcontext(&copy);
    });
    const itimerval soon{{0, 0}, {0, 20'000}};
    volatile int times = 0;
    REQUIRE(getcontext(&before) == 0);
    times = times + 1;
    if (times > 1) return true;
    setitimer(ITIMER_REAL, &soon, nullptr);
    call();
    return false;
  };
  const auto goes_on = [&] {
    CHECK_FALSE(is_blocked(SIGALRM));
    send_all(pair.server, "x");
    CHECK(receive(pair.client, 1) == "x");
  };
  for (const auto& reader : readers) {
    INFO(reader.name);
    char byte = 0;
    CHECK(jumped([&] { reader.call(pair.client, &byte, 1); }));
    goes_on();
  }
  for (const auto& waiter : waiters) {
    INFO(waiter.name);
    CHECK(jumped([&] { waiter.call(pair.client, POLLIN, -1); }));
    goes_on();
  }
}

TEST_CASE("longjmp: out of recv, and the signal stays blocked", "[longjmp][recv]") {
  const auto pair = connected();
  static jmp_buf plain;
  char byte;
  {
    const Action action(SIGALRM, [](int) { longjmp(plain, 1); });
    const itimerval soon{{0, 0}, {0, 20'000}};
    if (setjmp(plain) == 0) {
      setitimer(ITIMER_REAL, &soon, nullptr);
      recv(pair.client, &byte, 1, 0);
      FAIL("no jump");
    }
  }
  CHECK(is_blocked(SIGALRM));
  const auto set = only(SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  send_all(pair.server, "z");
  CHECK(receive(pair.client, 1) == "z");
}

TEST_CASE("siglongjmp: within a handler leaves the call that it interrupted alone", "[siglongjmp][recv]") {
  const auto pair = connected();
  handled = 0;
  const Action action(SIGALRM, call_in_handler, SA_RESTART);
  Caller caller([&] {
    char byte = 0;
    return recv(pair.client, &byte, 1, 0) == 1 && byte == 'x';
  });
  eventually([&] { return caller.asleep(); });
  caller.signal(SIGALRM);
  CHECK(eventually([] { return handled == 1; }));
  send_all(pair.server, "x");
  CHECK(caller.join().value == 1);
}

TEST_CASE("siglongjmp: by a handler on a stack of its own", "[siglongjmp][sigaltstack][recv]") {
  const auto pair = connected();
  static char memory[1 << 16];
  const stack_t stack{memory, 0, sizeof memory};
  REQUIRE(sigaltstack(&stack, nullptr) == 0);
  for (const auto& reader : readers) {
    INFO(reader.name);
    char byte;
    CHECK(jumped_out_of([&] { reader.call(pair.client, &byte, 1); }, SA_ONSTACK));
    send_all(pair.server, "x");
    CHECK(receive(pair.client, 1) == "x");
  }
}

TEST_CASE("siglongjmp: out of a handler's call and of the call that it interrupted, both at once",
          "[siglongjmp][recv]") {
  const auto one = connected(), two = connected();
  static int other;
  other = two.client;
  // Only once this has begun is it to be jumped out of.
  const Action action(SIGUSR1, [](int) {
    jump_soon();
    char byte;
    recv(other, &byte, 1, 0);
  });
  const Action jump(SIGALRM, jump_out);
  std::thread sender([thread = pthread_self()] {
    std::this_thread::sleep_for(10ms);
    pthread_kill(thread, SIGUSR1);
  });
  if (sigsetjmp(before_call, 1) == 0) {
    char byte;
    recv(one.client, &byte, 1, 0);
    FAIL("it came back");
  }
  sender.join();
  for (const auto* pair : {&one, &two}) {
    send_all(pair->server, "x");
    CHECK(receive(pair->client, 1) == "x");
  }
}
