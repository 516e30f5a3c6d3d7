#include "core/base/lines.hpp"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

using namespace rsock;

namespace {

// A folder for a test.
struct Folder {
  std::string path;
  Folder() {
    char name[] = "/tmp/rsock-lines.XXXXXX";
    REQUIRE(mkdtemp(name));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string operator/(const char* name) const { return path + "/" + name; }
};

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

int raised = 0;

}  // namespace

TEST_CASE("A line goes to the end of a file, which is made", "[lines]") {
  const Folder folder;
  for (const char* line : {"one\n", "two\n"}) {
    auto file = lines::open((folder / "file").c_str(), 0600);
    REQUIRE(file);
    CHECK(lines::append(file->get(), line));
  }
  CHECK(text_of(folder / "file") == "one\ntwo\n");
}

TEST_CASE("What may not grow stays as it is, and no signal comes", "[lines]") {
  const Folder folder;
  auto file = lines::open((folder / "file").c_str(), 0600);
  REQUIRE(file);
  REQUIRE(lines::append(file->get(), "whole\n"));
  rlimit before{}, few{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  few = {8, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &few) == 0);
  raised = 0;
  const auto handler = signal(SIGXFSZ, [](int) { ++raised; });
  CHECK(lines::append(file->get(), "more\n").is(EFBIG));
  signal(SIGXFSZ, handler);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(raised == 0);
  CHECK(text_of(folder / "file") == "whole\n");
}

TEST_CASE("Nobody is waited for at a FIFO", "[lines]") {
  const Folder folder;
  const auto path = folder / "fifo";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK(lines::open(path.c_str(), 0600).is(ENXIO));
  const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK));
  auto file = lines::open(path.c_str(), 0600);
  REQUIRE(file);
  CHECK(lines::append(file->get(), "heard\n"));
  char got[6];
  CHECK(read(reader.get(), got, 6) == 6);
  const std::string line(1000, 'x');
  Status told = Done{};
  for (int i = 0; told && i < 1000; ++i) told = lines::append(file->get(), line);
  CHECK(told.is(EAGAIN));
  CHECK(lines::append(file->get(), std::string(100'000, 'x')).is(EAGAIN));
}

TEST_CASE("A reader that has gone raises no signal, and one that waits is left where it is", "[lines]") {
  const Folder folder;
  const auto path = folder / "fifo";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  UniqueFd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK));
  auto file = lines::open(path.c_str(), 0600);
  REQUIRE(file);
  reader.reset();
  raised = 0;
  const auto handler = signal(SIGPIPE, [](int) { ++raised; });
  CHECK(lines::append(file->get(), "unheard\n").is(EPIPE));
  CHECK(raised == 0);
  sigset_t one, before, pending;
  sigemptyset(&one);
  sigaddset(&one, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &one, &before);
  raise(SIGPIPE);
  CHECK(lines::append(file->get(), "unheard\n").is(EPIPE));
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 1);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(raised == 1);
  signal(SIGPIPE, handler);
}

TEST_CASE("What is neither a file nor a stream is not written to", "[lines]") {
  CHECK(lines::open("/", 0600).is(EISDIR));
  CHECK(lines::open("", 0600).is(EISDIR));
  CHECK(lines::open("/tmp", 0600).is(EISDIR));
  CHECK(lines::open("/no/such/folder", 0600).is(ENOENT));
  auto full = lines::open("/dev/full", 0600);
  REQUIRE(full);
  CHECK(lines::append(full->get(), "line\n").is(ENOSPC));
}

TEST_CASE("Links are followed if they are one's own, and end", "[lines]") {
  const Folder folder;
  REQUIRE(symlink("file", (folder / "link").c_str()) == 0);
  REQUIRE(symlink("link", (folder / "link2").c_str()) == 0);
  REQUIRE(symlink(folder.path.c_str(), (folder / "folder").c_str()) == 0);
  REQUIRE(symlink("loop", (folder / "loop").c_str()) == 0);
  for (const char* name : {"link", "link2", "folder/folder/link", "folder/./file"}) {
    auto file = lines::open((folder / name).c_str(), 0600);
    REQUIRE(file);
    CHECK(lines::append(file->get(), "x"));
  }
  CHECK(text_of(folder / "file") == "xxxx");
  CHECK(lines::open((folder / "loop").c_str(), 0600).is(ELOOP));
}

TEST_CASE("Where others may write, a second name and a stranger's link or file are not used", "[lines]") {
  if (geteuid() != 0) return;
  const Folder folder;
  REQUIRE(chmod(folder.path.c_str(), 01777) == 0);
  REQUIRE(symlink((folder / "made").c_str(), (folder / "link").c_str()) == 0);
  std::ofstream(folder / "mine") << "";
  std::ofstream(folder / "theirs") << "";
  REQUIRE(lchown((folder / "link").c_str(), 65534, 65534) == 0);
  REQUIRE(chown((folder / "theirs").c_str(), 65534, 65534) == 0);
  REQUIRE(link((folder / "mine").c_str(), (folder / "second").c_str()) == 0);
  for (const char* name : {"link", "theirs", "second"}) CHECK(lines::open((folder / name).c_str(), 0600).is(EACCES));
  CHECK_FALSE(std::filesystem::exists(folder / "made"));
  CHECK(lines::open((folder / "new").c_str(), 0600));
}

TEST_CASE("Standard error is written to as long as it is what it was", "[lines]") {
  const Folder folder;
  const UniqueFd before(dup(2));
  const UniqueFd first(::open((folder / "first").c_str(), O_WRONLY | O_CREAT, 0600)),
      other(::open((folder / "other").c_str(), O_WRONLY | O_CREAT, 0600));
  REQUIRE(dup2(first.get(), 2) == 2);
  lines::StandardError error;
  error.remember();
  const auto to_first = error.append("line\n");
  dup2(other.get(), 2);
  const auto to_other = error.append("line\n");
  close(2);
  const auto to_none = error.append("line\n");
  dup2(before.get(), 2);
  CHECK(to_first);
  CHECK(to_other.is(EBADF));
  CHECK(to_none.is(EBADF));
  CHECK(text_of(folder / "first") == "line\n");
  CHECK(text_of(folder / "other").empty());
}

TEST_CASE("A pipe as standard error that is full is not waited for", "[lines]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const UniqueFd in(ends[0]), out(ends[1]), before(dup(2));
  REQUIRE(dup2(out.get(), 2) == 2);
  lines::StandardError error;
  error.remember();
  const std::string line(1000, 'x');
  Status told = Done{};
  for (int i = 0; told && i < 1000; ++i) told = error.append(line);
  dup2(before.get(), 2);
  CHECK(told.is(EAGAIN));
  CHECK((fcntl(out.get(), F_GETFL) & O_NONBLOCK) == 0);
}
