# The Python module (python/): the planner and packed matrices, without the libraries that only hearing needs. nanobind comes with the build
# requirements of pyproject.toml, so this is for `pip install .`, not for a build by hand.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
add_compile_options(-ffunction-sections -fdata-sections)  # forward passes are dropped again below
set(SOTTO_FMT fmt::fmt-header-only)                       # the wheel needs no library but the compiler's own

foreach(folder base plan codec ops weights kv)
  sotto_folder(${folder})
endforeach()
sotto_folder(audio ONLY fft log_mel)  # the sizes of its tables
sotto_folder(text)
sotto_folder(models)
sotto_folder(engine ONLY planning report admission admission_rules admission_report original sources matrix)

# Without the component that scikit-build-core names, nanobind would leave the stable ABI without a word. It is there from
# Python 3.12 on (pyproject.toml: py-api), and FindPython knows it from CMake 3.26 on.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module ${SKBUILD_SABI_COMPONENT})
find_package(nanobind CONFIG REQUIRED)
nanobind_add_module(_sotto STABLE_ABI NB_STATIC python/module.cc python/memory_manager.cc python/packed_matrix.cc)
target_link_libraries(_sotto PRIVATE ${SOTTO_OBJECTS})
target_link_options(_sotto PRIVATE -Wl,--gc-sections)
# Importing the module for this also finds what the lists of files above lack.
nanobind_add_stub(_sotto_stub MODULE _sotto OUTPUT _sotto.pyi PYTHON_PATH $<TARGET_FILE_DIR:_sotto> DEPENDS _sotto)

install(TARGETS _sotto LIBRARY DESTINATION sotto)
install(FILES ${PROJECT_BINARY_DIR}/_sotto.pyi DESTINATION sotto)
install(DIRECTORY catalog DESTINATION sotto)
