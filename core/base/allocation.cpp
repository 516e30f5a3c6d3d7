// The library's own operator new; nobody outside sees it. Left out of what sanitizers look after, which bring theirs.

#include <cstdlib>
#include <new>

#include "core/base/reserve.hpp"

void* operator new(size_t size) {
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  if (void* memory = rsock::reserve::take(size)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  if (!rsock::reserve::give_back(memory)) std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
