# The libraries of the portable folders without any compiled library of the host: fmt, nlohmann-json and xxHash as headers, GoogleTest
# from Debian's sources. /usr/include itself must not reach a cross compiler, so a directory of links stands in for it.
set(SOTTO_HOST_HEADERS ${PROJECT_BINARY_DIR}/host_headers)
file(MAKE_DIRECTORY ${SOTTO_HOST_HEADERS})
foreach(library fmt nlohmann xxhash.h simde)
  if(EXISTS /usr/include/${library})
    file(CREATE_LINK /usr/include/${library} ${SOTTO_HOST_HEADERS}/${library} SYMBOLIC)
  elseif(NOT library STREQUAL "simde")
    message(FATAL_ERROR "/usr/include/${library} is missing; scripts/setup --full installs it")
  endif()
endforeach()

add_library(sotto_fmt INTERFACE)
target_include_directories(sotto_fmt SYSTEM INTERFACE ${SOTTO_HOST_HEADERS})
target_compile_definitions(sotto_fmt INTERFACE FMT_HEADER_ONLY=1)
add_library(fmt::fmt ALIAS sotto_fmt)
add_library(sotto_json INTERFACE)
target_include_directories(sotto_json SYSTEM INTERFACE ${SOTTO_HOST_HEADERS})
add_library(nlohmann_json::nlohmann_json ALIAS sotto_json)

set(SOTTO_GOOGLETEST /usr/src/googletest)
if(EXISTS ${SOTTO_GOOGLETEST}/googlemock/src/gmock-all.cc)
  add_library(sotto_gtest STATIC ${SOTTO_GOOGLETEST}/googletest/src/gtest-all.cc ${SOTTO_GOOGLETEST}/googlemock/src/gmock-all.cc
                                 ${SOTTO_GOOGLETEST}/googletest/src/gtest_main.cc)
  target_include_directories(sotto_gtest SYSTEM PUBLIC ${SOTTO_GOOGLETEST}/googletest/include ${SOTTO_GOOGLETEST}/googlemock/include
                                         PRIVATE ${SOTTO_GOOGLETEST}/googletest ${SOTTO_GOOGLETEST}/googlemock)
  target_compile_options(sotto_gtest PRIVATE -w)
  target_link_libraries(sotto_gtest PUBLIC Threads::Threads)
  foreach(part gtest gmock gtest_main)
    add_library(GTest::${part} ALIAS sotto_gtest)
  endforeach()
endif()
