# How every folder of the house declares what it holds.

add_library(limn_flags INTERFACE)
target_compile_definitions(limn_flags INTERFACE _GNU_SOURCE)
target_include_directories(limn_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(limn_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -fno-math-errno
                       $<$<CONFIG:Release>:-O3>)
if(CMAKE_C_COMPILER_ID STREQUAL Clang)
  # No faults: loops that the sanitizers keep from being vectorised, pragmas for GCC alone, tables that end with {NULL}, a text in
  # two pieces where a \x escape must end.
  target_compile_options(limn_flags INTERFACE -Wno-pass-failed -Wno-unknown-pragmas -Wno-missing-field-initializers
                         -Wno-string-concatenation)
endif()
if(LIMN_SANITIZE)
  target_compile_options(limn_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  target_link_options(limn_flags INTERFACE -fsanitize=address,undefined)
endif()
if(LIMN_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL Clang)
    message(FATAL_ERROR "LIMN_FUZZ needs clang, not ${CMAKE_C_COMPILER_ID}: cmake --preset fuzz")
  endif()
  # libFuzzer without its main function: ours hands over to it.
  execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libclang_rt.fuzzer_no_main-${CMAKE_SYSTEM_PROCESSOR}.a
                  OUTPUT_VARIABLE LIMN_LIBFUZZER OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT EXISTS ${LIMN_LIBFUZZER})
    message(FATAL_ERROR "${LIMN_LIBFUZZER}: clang's libFuzzer is missing: apt-get install libclang-rt-dev")
  endif()
  set(fuzz_flags -fsanitize=fuzzer-no-link,address,undefined)
  target_compile_options(limn_flags INTERFACE ${fuzz_flags} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  target_link_options(limn_flags INTERFACE ${fuzz_flags})
endif()

# limn_library(nn SOURCES a.c b.c LINK limn_core PkgConfig::openblas): the static library limn_nn with its door nn/nn.h.
function(limn_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(limn_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(limn_${name} PUBLIC limn_flags ${ARG_LINK} m)
  install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/${name}.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/limn/${name})
endfunction()

# limn_program(limn-sample SOURCES limn_sample.c LINK limn_infer): an executable that is installed.
function(limn_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE limn_flags ${ARG_LINK})
  install(TARGETS ${name} DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# limn_test(test-nn-norms SOURCES norms_test.c LINK limn_nn): a cmocka program run by ctest without arguments.
function(limn_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE limn_flags ${ARG_LINK} PkgConfig::cmocka)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  # Tests run several at once: threads that spin while they wait would take the cores from each other.
  set_tests_properties(${name} PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
