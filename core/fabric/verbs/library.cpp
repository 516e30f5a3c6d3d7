#include "core/fabric/verbs/library.hpp"

#include <dlfcn.h>

#include <utility>

#include "core/base/kernel.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"

namespace rsock::fabric::verbs {
namespace {

template <class Function>
bool resolve(void* handle, const char* name, Function& to) {
  to = reinterpret_cast<Function>(dlsym(handle, name));
  if (!to) log::warning("rdma-core lacks {}", name);
  return to != nullptr;
}

enum class Loaded { not_yet, good, bad };

Library present{};
Loaded loaded = Loaded::not_yet;
bool opened = false;     // a device, by the present copy
bool inherited = false;  // a copy that has one is there, from a parent

void* open_copy() {
  constexpr char kName[] = "librdmacm.so.1";
  return inherited ? dlmopen(LM_ID_NEWLM, kName, RTLD_NOW | RTLD_LOCAL) : dlopen(kName, RTLD_NOW | RTLD_LOCAL);
}

bool load(Library& to) {
  void* cm = open_copy();
  if (!cm) {
    log::info("rdma-core is not there: {}", dlerror());
    return false;
  }
  bool good = true;
#define RSOCK_VERBS_RESOLVE(name) good = resolve(cm, #name, to.name) && good;
  RSOCK_VERBS_SYMBOLS(RSOCK_VERBS_RESOLVE)
#undef RSOCK_VERBS_RESOLVE
  return resolve(cm, "ibv_reg_mr", to.reg_mr) && resolve(cm, "__errno_location", to.errno_of_libc) && good;
}

}  // namespace

const Library* library() {
  if (loaded == Loaded::not_yet) loaded = load(present) ? Loaded::good : Loaded::bad;
  return loaded == Loaded::good ? &present : nullptr;
}

void device_is_opened() { opened = true; }

void adopt(int& fd) {
  own::forget(fd);
  fd = sys::move_high(fd);
  own::keep(fd);
}

void library_forked() {
  if (!std::exchange(opened, false)) return;
  inherited = true;
  loaded = Loaded::not_yet;
}

}  // namespace rsock::fabric::verbs
