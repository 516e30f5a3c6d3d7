#include "core/fabric/verbs/library.hpp"

#include <dlfcn.h>

#include "core/base/log.hpp"

namespace rsock::fabric::verbs {
namespace {

template <class Function>
bool resolve(void* handle, const char* name, Function& to) {
  to = reinterpret_cast<Function>(dlsym(handle, name));
  if (!to) log::warning("rdma-core lacks {}", name);
  return to != nullptr;
}

bool load(Library& to) {
  void* cm = dlopen("librdmacm.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!cm) {
    log::info("rdma-core is not there: {}", dlerror());
    return false;
  }
  bool good = true;
#define RSOCK_VERBS_RESOLVE(name) good = resolve(cm, #name, to.name) && good;
  RSOCK_VERBS_SYMBOLS(RSOCK_VERBS_RESOLVE)
#undef RSOCK_VERBS_RESOLVE
  return resolve(cm, "ibv_reg_mr", to.reg_mr) && good;
}

}  // namespace

const Library* library() {
  static Library loaded{};
  static const bool good = load(loaded);
  return good ? &loaded : nullptr;
}

}  // namespace rsock::fabric::verbs
