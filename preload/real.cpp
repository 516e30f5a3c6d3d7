#include "preload/real.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstring>

// Where this library begins; from the linker.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start;

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

uint32_t gnu_hash(const char* name) {
  uint32_t hash = 5381;
  for (; *name; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

// What the loader has read of a library, by its hash table in GNU's format (all that is linked today).
class Symbols {
 public:
  explicit Symbols(const link_map& library) : base_(library.l_addr) {
    for (const auto* entry = library.l_ld; entry->d_tag != DT_NULL; ++entry) {
      // Most are addresses by now; some libraries have theirs where they cannot be changed.
      const auto at = entry->d_un.d_ptr < base_ ? base_ + entry->d_un.d_ptr : entry->d_un.d_ptr;
      if (entry->d_tag == DT_GNU_HASH) hash_ = reinterpret_cast<const uint32_t*>(at);
      if (entry->d_tag == DT_SYMTAB) symbols_ = reinterpret_cast<const ElfW(Sym)*>(at);
      if (entry->d_tag == DT_STRTAB) names_ = reinterpret_cast<const char*>(at);
      if (entry->d_tag == DT_VERSYM) versions_ = reinterpret_cast<const ElfW(Half)*>(at);
    }
  }

  // Of its default version.
  void* find(const char* name, uint32_t hash) const {
    if (!hash_ || !symbols_ || !names_ || hash_[0] == 0) return nullptr;
    const uint32_t buckets = hash_[0], first = hash_[1], words = hash_[2];
    const uint32_t* bucket = hash_ + 4 + words * (sizeof(ElfW(Addr)) / sizeof *hash_);
    const uint32_t* chain = bucket + buckets;
    for (uint32_t at = bucket[hash % buckets]; at >= first; ++at) {
      if ((chain[at - first] | 1) == (hash | 1) && is_default(at) && is_function(symbols_[at]) &&
          std::strcmp(names_ + symbols_[at].st_name, name) == 0)
        return reinterpret_cast<void*>(base_ + symbols_[at].st_value);
      if (chain[at - first] & 1) break;
    }
    return nullptr;
  }

 private:
  static bool is_function(const ElfW(Sym) & symbol) {
    return symbol.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC;
  }
  bool is_default(uint32_t at) const {
    constexpr unsigned kHidden = 0x8000;
    return !versions_ || !(versions_[at] & kHidden);
  }

  ElfW(Addr) base_;
  const uint32_t* hash_ = nullptr;
  const ElfW(Sym) * symbols_ = nullptr;
  const char* names_ = nullptr;
  const ElfW(Half) * versions_ = nullptr;
};

}  // namespace

// dlsym allocates before glibc 2.34, and an allocator that looks at its system when it is first called, and
// has its lock by then, would wait for itself: jemalloc.
void* early_definition(Name name) {
  const char* const text = kNames[static_cast<unsigned>(name)];
  const uint32_t hash = gnu_hash(text);
  const auto own = reinterpret_cast<ElfW(Addr)>(&__ehdr_start);
  const auto* library = _r_debug.r_map;
  while (library && library->l_addr != own) library = library->l_next;
  while (library && (library = library->l_next))
    if (void* found = Symbols(*library).find(text, hash)) return found;
  return nullptr;
}

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
