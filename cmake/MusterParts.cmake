# SPDX-License-Identifier: Apache-2.0
# How a folder of the house becomes part of a library, a program and a test program.
# Every .cpp of a folder belongs to it; *_test.cpp belong to its test; the suffix of a file names its instruction set.

set(MUSTER_WARNINGS -Wall -Wextra -Wpedantic -Wno-psabi)
set(MUSTER_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(MUSTER_FLAGS_avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
                        -mavx512bf16 -mprefer-vector-width=512)
set(MUSTER_FLAGS_amx ${MUSTER_FLAGS_avx512} -mamx-tile -mamx-bf16)

set(MUSTER_KERNEL_LEVEL -O3)
set(MUSTER_TEST_SECONDS 300)  # after which a test counts as hanging
if(MUSTER_SANITIZE)
    set(MUSTER_TEST_SECONDS 1500)
    # Instrumented kernels with all their unrolled tiles take minutes to optimise.
    set(MUSTER_KERNEL_LEVEL -O1)
    add_compile_definitions(MUSTER_SANITIZED)
    add_compile_options(-fsanitize=${MUSTER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
    add_link_options(-fsanitize=${MUSTER_SANITIZE})
endif()

string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" MUSTER_PROCESSOR)
if(MUSTER_PROCESSOR MATCHES "^(x86_64|amd64)$")
    set(MUSTER_X86 ON)
else()
    set(MUSTER_X86 OFF)
endif()

function(muster_folder_sources out folder)
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/muster/${folder}/*.cpp
         ${PROJECT_SOURCE_DIR}/muster/${folder}/arch/*.cpp)
    list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
    if(NOT MUSTER_X86)
        list(FILTER sources EXCLUDE REGEX "_(avx2|avx512|amx)\\.cpp$")
    endif()
    foreach(isa avx2 avx512 amx)
        foreach(source ${sources})
            if(source MATCHES "_${isa}\\.cpp$")
                set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS ${MUSTER_FLAGS_${isa}}
                             ${MUSTER_KERNEL_LEVEL})
            endif()
        endforeach()
    endforeach()
    # Routing and weight formats give the same bits on every machine: no fused multiply-add here and not there.
    if(folder MATCHES "^(routing|quant)$")
        set_property(SOURCE ${sources} APPEND PROPERTY COMPILE_OPTIONS -ffp-contract=off)
    endif()
    set(${out} ${sources} PARENT_SCOPE)
endfunction()

# muster_library(NAME FOLDERS folder...)
function(muster_library name)
    cmake_parse_arguments(ARG "" "" "FOLDERS" ${ARGN})
    set(all "")
    foreach(folder ${ARG_FOLDERS})
        muster_folder_sources(sources ${folder})
        list(APPEND all ${sources})
    endforeach()
    add_library(${name} ${all})
    add_library(muster::${name} ALIAS ${name})
    target_compile_options(${name} PRIVATE ${MUSTER_WARNINGS})
    target_compile_definitions(${name} PRIVATE MUSTER_X86=$<BOOL:${MUSTER_X86}>)
    target_compile_features(${name} PUBLIC cxx_std_20)
    target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                              $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

# muster_embed(target FOLDER folder): the text files of muster/<folder>/page as a source of the target.
function(muster_embed target)
    cmake_parse_arguments(ARG "" "FOLDER" "" ${ARGN})
    set(directory ${PROJECT_SOURCE_DIR}/muster/${ARG_FOLDER}/page)
    file(GLOB files CONFIGURE_DEPENDS ${directory}/*.html ${directory}/*.css ${directory}/*.js)
    set(names "")
    foreach(file ${files})
        cmake_path(GET file FILENAME name)
        string(APPEND names " ${name}")
    endforeach()
    set(output ${PROJECT_BINARY_DIR}/${ARG_FOLDER}_page_files.cpp)
    set(script ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake)
    add_custom_command(OUTPUT ${output} DEPENDS ${files} ${script} VERBATIM
                       COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DDIRECTORY=${directory} "-DFILES=${names}"
                               -P ${script})
    target_sources(${target} PRIVATE ${output})
endfunction()

# muster_program(TARGET FOLDER folder OUTPUT name): a library <TARGET>_lib of all but main.cpp, and the program.
function(muster_program target)
    cmake_parse_arguments(ARG "" "FOLDER;OUTPUT" "" ${ARGN})
    muster_folder_sources(sources ${ARG_FOLDER})
    list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
    add_library(${target}_lib STATIC ${sources})
    target_compile_options(${target}_lib PRIVATE ${MUSTER_WARNINGS})
    target_link_libraries(${target}_lib PUBLIC muster fmt::fmt nlohmann_json::nlohmann_json)
    target_compile_definitions(${target}_lib PUBLIC MUSTER_VERSION="${PROJECT_VERSION}")
    add_executable(${target} ${PROJECT_SOURCE_DIR}/muster/${ARG_FOLDER}/main.cpp)
    set_target_properties(${target} PROPERTIES OUTPUT_NAME ${ARG_OUTPUT})
    target_compile_options(${target} PRIVATE ${MUSTER_WARNINGS})
    target_link_libraries(${target} PRIVATE ${target}_lib)
    target_compile_definitions(${target} PRIVATE MUSTER_DATA_DIR="${PROJECT_SOURCE_DIR}/models")
endfunction()

# muster_folder_test(folder LINK targets...): one test program of all *_test.cpp of a folder.
function(muster_folder_test folder)
    cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/muster/${folder}/*_test.cpp)
    if(sources)
        string(REPLACE "/" "_" name ${folder}_test)
        add_executable(${name} ${sources})
        target_compile_options(${name} PRIVATE ${MUSTER_WARNINGS})
        target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock_main fmt::fmt
                                              nlohmann_json::nlohmann_json)
        target_compile_definitions(${name} PRIVATE MUSTER_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
        gtest_discover_tests(${name} TEST_PREFIX "${folder}." DISCOVERY_TIMEOUT 60
                             PROPERTIES TIMEOUT ${MUSTER_TEST_SECONDS})
    endif()
endfunction()
