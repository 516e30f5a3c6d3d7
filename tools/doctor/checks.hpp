#pragma once

#include "tools/doctor/findings.hpp"
#include "tools/doctor/subject.hpp"

namespace rsock::tools::doctor {

/// What is looked at. `parsed` is the configuration as the subject reads it.
Findings look_at_library(const Subject& subject);
Findings look_at_configuration(const Subject& subject, const config::Parsed& parsed);
Findings look_at_glibc(const Subject& subject);
Findings look_at_program(const Subject& subject);
Findings look_at_confinement(const Subject& subject);
Findings look_at_sandbox(const Subject& subject, const config::Parsed& parsed);
Findings look_at_locked_memory(const Subject& subject, const config::Parsed& parsed);
Findings look_at_descriptors(const Subject& subject);
Findings look_at_fork(const Subject& subject);
Findings look_at_io_uring(const Subject& subject, const config::Parsed& parsed);
Findings look_at_devices(const Subject& subject, const config::Parsed& parsed);

/// As the subject's user reads it, from where its environment says.
config::Source configuration_of(const Subject& subject);
config::Parsed read_configuration(const Subject& subject);

/// Whether a rule wants RDMA and nothing else, or may use it.
bool demands_rdma(const config::Parsed& parsed);
bool may_use_rdma(const config::Parsed& parsed);

/// The RDMA devices of this host, by their names.
std::vector<std::string> devices(const Subject& subject);

}  // namespace rsock::tools::doctor
