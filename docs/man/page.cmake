# cmake -DRSOCK=COMMAND -DVERSION=V -DTEMPLATE=FILE -DPAGE=FILE -P page.cmake: a manual page, with what `rsock` itself knows of its
# commands, options and reasons.
cmake_minimum_required(VERSION 3.25)
file(READ ${TEMPLATE} page)
foreach(part commands options reasons)
  if(NOT page MATCHES "@${part}@")
    continue()
  endif()
  set(arguments_of_commands --man)
  set(arguments_of_options options --man)
  set(arguments_of_reasons explain --man)
  execute_process(COMMAND ${RSOCK} ${arguments_of_${part}} OUTPUT_VARIABLE text OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "@${part}@" "${text}" page "${page}")
endforeach()
string(REPLACE "@VERSION@" "${VERSION}" page "${page}")
file(WRITE ${PAGE} "${page}")
