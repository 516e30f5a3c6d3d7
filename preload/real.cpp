#include "preload/real.hpp"

#include <dlfcn.h>

namespace rsock::real {
namespace {

#define RSOCK_OWN(name)
#define RSOCK_ALIAS(alias, name)

constexpr const char* kNames[] = {
#define RSOCK_CALL(name) #name,
#define RSOCK_CALL_AS(name, signature) #name,
#include "preload/calls.def"
#undef RSOCK_CALL
#undef RSOCK_CALL_AS
};

}  // namespace

void* next_definition(Name name) {
  const int saved = errno;
  void* found = dlsym(RTLD_NEXT, kNames[static_cast<unsigned>(name)]);
  errno = saved;
  return found;
}

void bind_all() {
#define RSOCK_CALL(name) name.bind();
#define RSOCK_CALL_AS(name, signature) name.bind();
#include "preload/calls.def"
}

}  // namespace rsock::real
