#pragma once

#include <string>

namespace rsock::tools {

/// Says once on stderr, before `program` is run, what the library would say in the log of each process only: what is
/// wrong with the configuration that the environment names, or that it selects nothing. Silent if all is well, or if
/// the configuration is no regular file: what is read from a pipe is not there for the program any more.
void tell_of_configuration(const std::string& program);

}  // namespace rsock::tools
