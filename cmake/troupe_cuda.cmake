# The preset `cuda`: finds the toolkit or says what is missing. Sources join by folder (kernels/cuda).
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "TROUPE_CUDA is ON, but nvcc was not found. Install the CUDA Toolkit, put nvcc on the PATH or "
    "set CUDACXX to it, or use the preset `release`.")
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
find_package(CUDAToolkit REQUIRED)
