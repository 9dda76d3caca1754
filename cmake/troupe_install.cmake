# `cmake --install`: public headers, static libraries and a configuration, so that in another project
# find_package(troupe) and target_link_libraries(app troupe::troupe) are enough.
include(CMakePackageConfigHelpers)

add_library(troupe_troupe INTERFACE)
target_link_libraries(troupe_troupe INTERFACE troupe_flags)
if(TARGET troupe_pipelines)
  target_link_libraries(troupe_troupe INTERFACE troupe_pipelines)
endif()
set_target_properties(troupe_troupe PROPERTIES EXPORT_NAME troupe)
add_library(troupe::troupe ALIAS troupe_troupe)
install(TARGETS troupe_troupe EXPORT troupe_targets)

set(troupe_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/troupe)
install(DIRECTORY include/troupe TYPE INCLUDE)
install(EXPORT troupe_targets NAMESPACE troupe:: DESTINATION ${troupe_config_dir})
configure_package_config_file(cmake/troupeConfig.cmake.in ${CMAKE_BINARY_DIR}/troupeConfig.cmake
  INSTALL_DESTINATION ${troupe_config_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/troupeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/troupeConfig.cmake ${CMAKE_BINARY_DIR}/troupeConfigVersion.cmake
  ${CMAKE_SOURCE_DIR}/cmake/FindCAF.cmake DESTINATION ${troupe_config_dir})
if(TARGET troupe)
  install(TARGETS troupe RUNTIME)
endif()
