#pragma once
// The name of a unix socket that the kernel makes up: a zero and five hexadecimal digits. No other socket of the
// network namespace has it as long as this one is open, and both ends of its connection see it, whatever else they see
// differently. Any thread; nothing blocks.

#include <cstdint>

#include "core/base/result.hpp"

namespace rsock::fabric::shm {

// A socket that has one keeps it.
Status give_name(int socket);

// Of the end of a connection that dialled: this one, or the other. As a number; EPROTO: any other name.
enum class Dialled { here, there };
Result<uint32_t> name_of_dialler(int socket, Dialled dialled);

}  // namespace rsock::fabric::shm
