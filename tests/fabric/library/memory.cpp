// Protection domains and regions of memory.

#include <cerrno>

#include "tests/fabric/library/verbs.hpp"

#undef ibv_reg_mr

ibv_pd* fabric::Context::usual_domain() {
  if (!usual) usual = ibv_alloc_pd(this);
  return usual;
}

using namespace fabric;

FABRIC_EXPORT ibv_pd* ibv_alloc_pd(ibv_context* context) {
  auto* domain = made<Domain>();
  if (!domain) return nullptr;
  Request request;
  request.verb = Verb::create_domain;
  Answer answer;
  if (!of(context).ask(request, answer)) {
    delete domain;
    return nullptr;
  }
  domain->context = context;
  domain->number = answer.handle;
  return domain;
}

FABRIC_EXPORT int ibv_dealloc_pd(ibv_pd* given) {
  auto* domain = static_cast<Domain*>(given);
  if (!of(domain->context).destroy(Verb::destroy_domain, domain->number)) return errno;
  delete domain;
  return 0;
}

FABRIC_EXPORT ibv_mr* ibv_reg_mr(ibv_pd* domain, void* address, size_t length, int access) {
  auto* region = made<Region>();
  if (!region) return nullptr;
  Request request;
  request.verb = Verb::create_region;
  request.domain = static_cast<Domain*>(domain)->number;
  request.address = reinterpret_cast<uintptr_t>(address);
  request.size = length;
  request.access = static_cast<uint32_t>(access);
  Answer answer;
  if (!of(domain->context).ask(request, answer)) {
    delete region;
    return nullptr;
  }
  region->context = domain->context;
  region->pd = domain;
  region->addr = address;
  region->length = length;
  region->lkey = answer.local_key;
  region->rkey = answer.remote_key;
  region->number = answer.handle;
  return region;
}

FABRIC_EXPORT ibv_mr* ibv_reg_mr_iova2(ibv_pd* domain, void* address, size_t length, uint64_t, unsigned access) {
  return ibv_reg_mr(domain, address, length, static_cast<int>(access));
}

FABRIC_EXPORT int ibv_dereg_mr(ibv_mr* given) {
  auto* region = static_cast<Region*>(given);
  if (!of(region->context).destroy(Verb::destroy_region, region->number)) return errno;
  delete region;
  return 0;
}
