#pragma once
// An open descriptor, and memory that is mapped from one. Each has one owner.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace fabric {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class Mapping {
 public:
  Mapping() = default;
  Mapping(const Descriptor& file, size_t size)
      : at_(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0)), size_(size) {
    if (at_ == MAP_FAILED) at_ = nullptr;
  }
  Mapping(Mapping&& other) noexcept : at_(std::exchange(other.at_, nullptr)), size_(other.size_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping() {
    if (at_) munmap(at_, size_);
  }
  explicit operator bool() const { return at_ != nullptr; }
  template <class Type>
  Type& as() const {
    return *static_cast<Type*>(at_);
  }

 private:
  void* at_ = nullptr;
  size_t size_ = 0;
};

}  // namespace fabric
