# SPDX-License-Identifier: Apache-2.0
# cmake -DOUTPUT=file.cpp -DDIRECTORY=dir "-DFILES=a b" -P EmbedText.cmake
# Writes text files into a C++ source that gives them by name (muster/report/page_files.h).
set(code "// Made by cmake/EmbedText.cmake.\n#include \"muster/report/page_files.h\"\n\nnamespace muster {\n\n")
string(APPEND code "std::string_view page_file(std::string_view name) noexcept {\n")
separate_arguments(FILES)
foreach(file IN LISTS FILES)
    file(READ ${DIRECTORY}/${file} content)
    string(APPEND code "    if (name == \"${file}\")\n        return R\"___(${content})___\";\n")
endforeach()
string(APPEND code "    return {};\n}\n\n}  // namespace muster\n")
file(WRITE ${OUTPUT} "${code}")
