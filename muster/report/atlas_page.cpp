// SPDX-License-Identifier: Apache-2.0
#include "muster/report/atlas_page.h"

#include "muster/core/error.h"
#include "muster/report/html_text.h"
#include "muster/report/page_files.h"
#include "muster/report/pareto_chart.h"

namespace muster {
namespace {

/// JSON inside a script element: nothing in it may look like the element's end or a comment.
std::string inside_script(const std::string& json) {
    std::string out;
    out.reserve(json.size());
    for (const char c : json) {
        if (c == '<') {
            out += "\\u003c";
        } else {
            out += c;
        }
    }
    return out;
}

}  // namespace

std::string atlas_html(const AtlasPage& page) {
    if (page.atlas.tokens() == 0)
        throw Error("atlas", "there is no token to show, expected a text of at least two tokens");
    std::string style, script;
    for (const char* name : {"colors.css", "page.css"}) style += page_file(name);
    for (const char* name :
         {"data.js", "chart.js", "plot.js", "reader.js", "sections.js", "policies.js"})
        script += page_file(name);
    const bool compared = page.evaluation != nullptr && page.evaluation->policies.size() > 1;
    return fill_template(page_file("atlas.html"),
                         {{"title", escaped(page.atlas.model)},
                          {"style", style},
                          {"version", escaped(page.version)},
                          {"pareto", compared ? pareto_svg(*page.evaluation) : ""},
                          {"data", inside_script(atlas_json(page))},
                          {"script", script}});
}

}  // namespace muster
