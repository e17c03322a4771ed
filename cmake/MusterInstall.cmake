# SPDX-License-Identifier: Apache-2.0
# cmake --install: headers, libraries, programs, find_package(muster) and a pkg-config file.
include(CMakePackageConfigHelpers)

set(MUSTER_INSTALLED muster)
if(MUSTER_TRAIN)
    list(APPEND MUSTER_INSTALLED muster_train)
    install(TARGETS muster-train muster-vocabulary RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(TARGETS ${MUSTER_INSTALLED} EXPORT musterTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS muster_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/muster/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/muster
        FILES_MATCHING PATTERN "*.h" PATTERN cli EXCLUDE PATTERN program EXCLUDE
        PATTERN "*_test.h" EXCLUDE PATTERN "test_*.h" EXCLUDE)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/muster
        FILES_MATCHING PATTERN "*.gguf" PATTERN "*.txt")
install(EXPORT musterTargets NAMESPACE muster:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/muster)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/musterConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/musterConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/muster)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/musterConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
# Relative to the file itself, so that `cmake --install --prefix` may choose the place.
file(RELATIVE_PATH MUSTER_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/muster.pc.in ${PROJECT_BINARY_DIR}/muster.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/musterConfig.cmake ${PROJECT_BINARY_DIR}/musterConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/muster)
install(FILES ${PROJECT_BINARY_DIR}/muster.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
