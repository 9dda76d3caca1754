# Settings that every target shares, and the functions that folders use: troupe_library, troupe_test, troupe_fuzzer.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(GNUInstallDirs)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

option(TROUPE_TESTS "Build the tests and examples" ON)
option(TROUPE_FUZZ "Build the libFuzzer targets (clang)" OFF)
option(TROUPE_WERROR "Warnings are errors" OFF)
option(TROUPE_ALL_TREES "ctest also runs the tests of build/dev, build/tsan and build/fuzz, which ./check builds" OFF)
set(TROUPE_SANITIZE "" CACHE STRING "Value for -fsanitize=, for example address,undefined or thread")

find_program(TROUPE_CCACHE ccache)
mark_as_advanced(TROUPE_CCACHE)
if(TROUPE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TROUPE_CCACHE})
endif()

# The flags stay inside this build; an installed Troupe hands its users only C++20 and the include directory.
add_library(troupe_flags INTERFACE)
target_compile_features(troupe_flags INTERFACE cxx_std_20)
target_compile_options(troupe_flags INTERFACE
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wall>> $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wextra>>
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>>
  $<$<AND:$<BOOL:${TROUPE_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:$<BUILD_INTERFACE:-Werror>>
  # g++ 12 warns of `"literal" + std::string` in its own header (GCC bug 105651).
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:$<BUILD_INTERFACE:-Wno-restrict>>)
target_include_directories(troupe_flags INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
if(TROUPE_SANITIZE)
  target_compile_options(troupe_flags INTERFACE
    -fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(troupe_flags INTERFACE -fsanitize=${TROUPE_SANITIZE})
endif()
if(TROUPE_FUZZ) # coverage for the libraries too, or the fuzzer would see only its own entry point
  target_compile_options(troupe_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
install(TARGETS troupe_flags EXPORT troupe_targets)

# troupe_opens(TARGET NAME LIBRARY): TARGET opens the shared library LIBRARY (a path, or an imported target) by the name
# that a linker would have recorded, NAME, and only when it needs it. Headers come from the caller's own include path.
function(troupe_opens target name library)
  if(TARGET ${library})
    foreach(property IMPORTED_LOCATION IMPORTED_LOCATION_NONE IMPORTED_LOCATION_RELEASE)
      get_target_property(path ${library} ${property})
      if(path)
        break()
      endif()
    endforeach()
    target_include_directories(${target} PRIVATE $<TARGET_PROPERTY:${library},INTERFACE_INCLUDE_DIRECTORIES>)
  else()
    set(path ${library})
  endif()
  execute_process(COMMAND ${CMAKE_READELF} -d ${path} OUTPUT_VARIABLE dynamic ERROR_QUIET)
  if(NOT dynamic MATCHES "SONAME[^[]*\\[([^]]+)\\]")
    message(FATAL_ERROR "${path} is no shared library: ${target} opens it at run time")
  endif()
  target_compile_definitions(${target} PRIVATE ${name}="${CMAKE_MATCH_1}")
endfunction()

# Built on demand: what TSan must see, and the fuzz targets.
add_custom_target(concurrency_tests)
add_custom_target(fuzzers)

# troupe_library(NAME SOURCES ... [LINK ...]): a static library named troupe_NAME. Installed with the C++ interface,
# except for the front ends (server/, cli/), which only the program needs.
function(troupe_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(troupe_${name} STATIC ${arg_SOURCES})
  target_link_libraries(troupe_${name} PUBLIC troupe_flags ${arg_LINK})
  cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE folder)
  if(NOT folder MATCHES "^(server|cli|tests)")
    install(TARGETS troupe_${name} EXPORT troupe_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endfunction()

# troupe_test(NAME SOURCES ... [LINK ...] [LABELS ...]): one Catch2 program, one ctest entry, run from the source root.
# The label `concurrency` also runs it under ThreadSanitizer: for what lies below the actors, since CAF itself is not
# instrumented and would drown true reports.
function(troupe_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(test_${name} ${arg_SOURCES})
  target_link_libraries(test_${name} PRIVATE troupe_test_main ${arg_LINK})
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 300 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if("concurrency" IN_LIST arg_LABELS)
    add_dependencies(concurrency_tests test_${name})
  endif()
endfunction()

# troupe_fuzzer(NAME SOURCES ... [LINK ...]): a libFuzzer program fuzz_NAME and a ctest entry that runs it for a short
# while on the seeds in corpus/NAME beside it.
function(troupe_fuzzer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(fuzz_${name} EXCLUDE_FROM_ALL ${arg_SOURCES})
  target_link_libraries(fuzz_${name} PRIVATE troupe_flags ${arg_LINK})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers fuzz_${name})
  set(found ${CMAKE_CURRENT_BINARY_DIR}/found/${name}) # what the fuzzer adds to the corpus stays in the build tree
  file(MAKE_DIRECTORY ${found})
  set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
  if(NOT IS_DIRECTORY ${seeds})
    set(seeds "")
  endif()
  add_test(NAME fuzz_${name} COMMAND fuzz_${name} -max_total_time=15 -timeout=10 -rss_limit_mb=2048 -max_len=65536
    -print_final_stats=1 -artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/ ${found} ${seeds})
  set_tests_properties(fuzz_${name} PROPERTIES LABELS fuzz TIMEOUT 120 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
endfunction()
