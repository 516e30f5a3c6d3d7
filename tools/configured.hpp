#pragma once

#include <sys/types.h>

#include <string>

namespace rsock::tools {

/// Says once on stderr, before `program` is run, what the library would say in the log of each process only: what is
/// wrong with the configuration that the environment names, or that it selects nothing. Silent if all is well, or
/// of what is in a pipe: what is read from there is not there for the program any more. Waits for nothing.
void tell_of_configuration(const std::string& program);

/// What is wrong with the configuration that a process would read now, by its environment as it began; empty: nothing,
/// or this user may not know.
std::string mistake_of(pid_t process);

}  // namespace rsock::tools
