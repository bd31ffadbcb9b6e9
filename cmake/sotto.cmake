# One OBJECT library a folder: in a static archive the linker would drop a self-registered file (an architecture, a policy).
# Kernels named x_avx2.cc, x_avx512.cc … are compiled for that instruction set and chosen at run time. Multiplications and
# additions are fused only where a kernel says so: the int8 kernels' results are the same bits on every instruction set.

set(SOTTO_OBJECTS "")
set(SOTTO_TEST_SOURCES "")

# A path is given to those files only that ask for it by name: for all others, builds in other places can share a cache.
function(sotto_tell name path)
  foreach(source ${ARGN})
    file(STRINGS ${source} asks REGEX "${name}" LIMIT_COUNT 1)
    if(asks)
      set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS "${name}=\"${path}\"")
    endif()
  endforeach()
endfunction()

function(sotto_folder name)
  cmake_parse_arguments(ARG "" "" "LIBS;ONLY" ${ARGN})  # ONLY: names of files, without .cc, when the others are not wanted
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  list(FILTER sources EXCLUDE REGEX "/cli/pull/")  # a program of its own, below
  if(ARG_ONLY)
    list(JOIN ARG_ONLY "|" names)
    list(FILTER sources INCLUDE REGEX "/(${names})\\.cc$")
  endif()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(FILTER sources EXCLUDE REGEX "_(avx2|avx512)\\.cc$")
  endif()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
    list(FILTER sources EXCLUDE REGEX "_neon\\.cc$")
  endif()
  foreach(source ${sources})
    if(source MATCHES "_avx2\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma;-mf16c;-mbmi2")
    elseif(source MATCHES "_avx512\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS  # g++ 12 warns of its own AVX512 headers
        "-O3;-mavx2;-mfma;-mf16c;-mbmi2;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-Wno-uninitialized;-Wno-maybe-uninitialized")
    elseif(source MATCHES "_portable\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3")
    elseif(source MATCHES "_neon\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3;-march=armv8.2-a+dotprod")
    endif()
  endforeach()
  sotto_tell(SOTTO_SOURCE_DIR "${PROJECT_SOURCE_DIR}" ${sources})
  foreach(test ${tests})
    if(test MATCHES "_avx512_test\\.cc$" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")  # emulated on AVX2
      set_source_files_properties(${test} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-Wno-psabi")
    endif()
  endforeach()
  if(sources)
    add_library(sotto_${name} OBJECT ${sources})
    target_include_directories(sotto_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    target_compile_definitions(sotto_${name} PUBLIC SOTTO_VERSION="${PROJECT_VERSION}")
    target_link_libraries(sotto_${name} PUBLIC ${SOTTO_FMT} nlohmann_json::nlohmann_json Threads::Threads ${ARG_LIBS})
    list(APPEND SOTTO_OBJECTS sotto_${name})
  endif()
  list(APPEND SOTTO_TEST_SOURCES ${tests})
  set(SOTTO_OBJECTS ${SOTTO_OBJECTS} PARENT_SCOPE)
  set(SOTTO_TEST_SOURCES ${SOTTO_TEST_SOURCES} PARENT_SCOPE)
endfunction()

function(sotto_binary)
  if(EXISTS ${PROJECT_SOURCE_DIR}/src/cli/main.cc)
    add_executable(sotto src/cli/main.cc)
    target_link_libraries(sotto PRIVATE ${SOTTO_OBJECTS})
  endif()
endfunction()

# sotto-pull: the one program that links libcurl and OpenSSL (src/cli/pull.h says why).
function(sotto_pull)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cli/pull/*.cc)
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  add_executable(sotto-pull ${sources})
  target_link_libraries(sotto-pull PRIVATE sotto_base sotto_plan sotto_codec sotto_weights CURL::libcurl OpenSSL::Crypto)
endfunction()

function(sotto_tests)
  if(NOT TARGET GTest::gmock)
    message(WARNING "GoogleTest was not found, so no tests are built; scripts/setup installs it (--full for cross builds)")
    return()
  endif()
  file(GLOB extra CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/*.cc)
  if(SOTTO_PORTABLE_ONLY)
    set(extra "")
  endif()
  # Tests run in the source tree (tests/main/main.cc goes there), so that no path stands in their objects.
  set(main ${PROJECT_SOURCE_DIR}/tests/main/main.cc)
  sotto_tell(SOTTO_ROOT "${PROJECT_SOURCE_DIR}" ${main})
  add_executable(sotto_tests ${SOTTO_TEST_SOURCES} ${extra} ${main})
  target_link_libraries(sotto_tests PRIVATE ${SOTTO_OBJECTS} GTest::gtest GTest::gmock)
  target_compile_definitions(sotto_tests PRIVATE SOTTO_SOURCE_DIR=".")
  target_compile_options(sotto_tests PRIVATE -O1)  # two fifths less time to build; what they test is built as it ships
  if(TARGET sotto)
    add_dependencies(sotto_tests sotto)
    sotto_tell(SOTTO_BINARY "$<TARGET_FILE:sotto>" ${SOTTO_TEST_SOURCES} ${extra})
  endif()
  if(TARGET sotto-pull)
    add_dependencies(sotto_tests sotto-pull)
    sotto_tell(SOTTO_PULL_BINARY "$<TARGET_FILE:sotto-pull>" ${SOTTO_TEST_SOURCES} ${extra})
  endif()
  include(GoogleTest)
  set(properties TIMEOUT 600)
  if(CMAKE_CROSSCOMPILING)  # tests of what qemu-user doesn't do skip and say so; the others take about ten times as long
    set(properties TIMEOUT 3000 ENVIRONMENT SOTTO_EMULATED=1)
  endif()
  find_program(PYTHON3 python3)
  if(PYTHON3 AND NOT SOTTO_PORTABLE_ONLY)
    add_test(NAME scripts.run_tests_reads_reports COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/run_tests --self-test)
    add_test(NAME docs.calculator_is_as_made
      COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/calculator_docs --check --sotto $<TARGET_FILE:sotto>)
    add_test(NAME docs.plan_schema_holds  # by the system's Python, which has the packages of scripts/setup
      COMMAND /usr/bin/python3 ${PROJECT_SOURCE_DIR}/scripts/check_schema --sotto $<TARGET_FILE:sotto>)
    add_test(NAME docs.questions_are_as_played
      COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/session_docs --check --sotto $<TARGET_FILE:sotto>
        ${PROJECT_SOURCE_DIR}/docs/questions.md)
    add_test(NAME docs.memory_is_as_played
      COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/session_docs --check --sotto $<TARGET_FILE:sotto>
        ${PROJECT_SOURCE_DIR}/docs/memory.md)
    add_test(NAME docs.fit_is_as_played
      COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/session_docs --check --sotto $<TARGET_FILE:sotto>
        ${PROJECT_SOURCE_DIR}/docs/fit.md)
  endif()
  gtest_discover_tests(sotto_tests DISCOVERY_MODE PRE_TEST PROPERTIES ${properties})
endfunction()
