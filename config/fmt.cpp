// fmt's own code, compiled once. Debian has it as headers and as a shared library: what is preloaded may need no
// library, and headers alone would compile all of it again in every file that formats a line.

#include <fmt/format-inl.h>

namespace fmt {
inline namespace v9 {
namespace detail {

// What fmt/format.h declares as instantiated elsewhere.
template auto thousands_sep_impl<char>(locale_ref) -> thousands_sep_result<char>;
template auto thousands_sep_impl<wchar_t>(locale_ref) -> thousands_sep_result<wchar_t>;
template auto decimal_point_impl(locale_ref) -> char;
template auto decimal_point_impl(locale_ref) -> wchar_t;

}  // namespace detail
}  // namespace v9
}  // namespace fmt
